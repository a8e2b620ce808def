//! The tables as diesel sees them; a test holds this file against a migrated database.

diesel::table! {
    store_meta (singleton) {
        singleton -> BigInt,
        epoch -> Text,
        change_log_pruned -> BigInt,
    }
}

diesel::table! {
    agents (namespace, id) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Binary,
        name -> Text,
        version -> Text,
        description -> Text,
        instructions -> Text,
        category -> Text,
        tags -> Text,
        enabled -> Bool,
        capabilities -> Text,
        executor_kind -> Text,
        executor_settings -> Text,
        config -> Text,
        deprecated -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
        deployed_at -> BigInt,
        updated_by -> Text,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    agent_history (namespace, id, revision) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Binary,
        name -> Text,
        version -> Text,
        description -> Text,
        instructions -> Text,
        category -> Text,
        tags -> Text,
        enabled -> Bool,
        capabilities -> Text,
        executor_kind -> Text,
        executor_settings -> Text,
        config -> Text,
        deprecated -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
        deployed_at -> BigInt,
        updated_by -> Text,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    tombstones (entity, namespace, id) {
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        purged_at -> BigInt,
    }
}

diesel::table! {
    change_log (seq) {
        seq -> BigInt,
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        op -> Text,
        at -> BigInt,
    }
}

diesel::table! {
    applied_ops (op_id) {
        op_id -> Text,
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        replaced_revision -> Nullable<BigInt>,
        op -> Text,
        at -> BigInt,
    }
}

diesel::table! {
    tool_usage (id) {
        id -> BigInt,
        at -> BigInt,
        tool -> Text,
        agent -> Nullable<Text>,
        actor -> Text,
        duration_us -> BigInt,
        request_bytes -> BigInt,
        response_bytes -> BigInt,
        error_code -> Nullable<Text>,
    }
}
