//! The tables as diesel sees them; a test holds this file against a migrated database.

/// SQL types that diesel does not know.
pub(crate) mod sql_types {
    /// A transaction id that never wraps around.
    #[derive(diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "xid8"))]
    pub struct Xid8;
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::Xid8;

    store_meta (singleton) {
        singleton -> Bool,
        epoch -> Uuid,
        change_log_pruned -> Xid8,
    }
}

diesel::table! {
    agents (namespace, id) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Bytea,
        name -> Text,
        version -> Text,
        description -> Text,
        instructions -> Text,
        category -> Text,
        tags -> Json,
        enabled -> Bool,
        capabilities -> Json,
        executor_kind -> Text,
        executor_settings -> Json,
        config -> Json,
        deprecated -> Nullable<Json>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deployed_at -> Timestamptz,
        updated_by -> Text,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    agent_history (namespace, id, revision) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Bytea,
        name -> Text,
        version -> Text,
        description -> Text,
        instructions -> Text,
        category -> Text,
        tags -> Json,
        enabled -> Bool,
        capabilities -> Json,
        executor_kind -> Text,
        executor_settings -> Json,
        config -> Json,
        deprecated -> Nullable<Json>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deployed_at -> Timestamptz,
        updated_by -> Text,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    tombstones (entity, namespace, id) {
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        purged_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::Xid8;

    change_log (xid, seq) {
        xid -> Xid8,
        seq -> BigInt,
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        op -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    applied_ops (op_id) {
        op_id -> Uuid,
        entity -> Text,
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        replaced_revision -> Nullable<BigInt>,
        op -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    tool_usage (id) {
        id -> BigInt,
        at -> Timestamptz,
        tool -> Text,
        agent -> Nullable<Text>,
        actor -> Text,
        duration_us -> BigInt,
        request_bytes -> BigInt,
        response_bytes -> BigInt,
        error_code -> Nullable<Text>,
    }
}

diesel::table! {
    workflows (namespace, id) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Bytea,
        document -> Json,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        updated_by -> Text,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    workflow_history (namespace, id, revision) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Bytea,
        document -> Json,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        updated_by -> Text,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    runs (id) {
        id -> Text,
        namespace -> Text,
        workflow_id -> Nullable<Text>,
        workflow_revision -> Nullable<BigInt>,
        definition_hash -> Bytea,
        definition -> Json,
        status -> Text,
        paused -> Bool,
        priority -> BigInt,
        context -> Json,
        input -> Json,
        result -> Nullable<Json>,
        error -> Nullable<Text>,
        idempotency_key -> Nullable<Text>,
        forked_from -> Nullable<Text>,
        revision -> BigInt,
        created_at -> Timestamptz,
        created_by -> Text,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        timeout_at -> Nullable<Timestamptz>,
        updated_at -> Timestamptz,
        updated_by -> Text,
    }
}

diesel::table! {
    steps (run_id, ord) {
        run_id -> Text,
        ord -> BigInt,
        name -> Text,
        agent -> Text,
        executor_kind -> Text,
        executor_settings -> Json,
        status -> Text,
        attempt -> BigInt,
        failures -> BigInt,
        input -> Nullable<Json>,
        output -> Nullable<Json>,
        error -> Nullable<Text>,
        wait -> Nullable<Json>,
        answer -> Nullable<Json>,
        checkpoint -> Nullable<Json>,
        progress -> Nullable<Json>,
        lease_owner -> Nullable<Text>,
        lease_until -> Nullable<Timestamptz>,
        progress_until -> Nullable<Timestamptz>,
        timeout_at -> Nullable<Timestamptz>,
        due_at -> Nullable<Timestamptz>,
        ready_at -> Nullable<Timestamptz>,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        revision -> BigInt,
    }
}

diesel::table! {
    agent_checks (namespace, id) {
        namespace -> Text,
        id -> Text,
        reachable -> Bool,
        detail -> Nullable<Text>,
        checked_at -> Timestamptz,
        checked_by -> Text,
        revision -> BigInt,
    }
}

diesel::table! {
    processes (id) {
        id -> Text,
        kind -> Text,
        host -> Text,
        pid -> BigInt,
        version -> Text,
        schema -> Text,
        mode -> Text,
        namespace -> Text,
        client -> Nullable<Text>,
        started_at -> Timestamptz,
        seen_at -> Timestamptz,
    }
}

diesel::table! {
    memories (id) {
        id -> Text,
        namespace -> Text,
        kind -> Text,
        content -> Text,
        data -> Nullable<Json>,
        tags -> Json,
        importance -> Float,
        decay -> Float,
        expires_at -> Nullable<Timestamptz>,
        key -> Nullable<Text>,
        agent -> Nullable<Text>,
        session -> Nullable<Text>,
        user_name -> Nullable<Text>,
        run_id -> Nullable<Text>,
        step -> Nullable<Text>,
        supersedes -> Json,
        relations -> Json,
        author -> Text,
        trust -> Text,
        derived_from -> Json,
        content_hash -> Bytea,
        frequency -> BigInt,
        accesses -> BigInt,
        last_accessed -> Timestamptz,
        superseded_by -> Nullable<Text>,
        revision -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        updated_by -> Text,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    agent_personalities (namespace, id) {
        namespace -> Text,
        id -> Text,
        confidence -> Float,
        caution -> Float,
        thoroughness -> Float,
        creativity -> Float,
        cooperation -> Float,
        interactions -> BigInt,
        positive -> BigInt,
        negative -> BigInt,
        capabilities -> Json,
        revision -> BigInt,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    memory_embeddings (model, memory) {
        model -> Text,
        memory -> Text,
        vector -> Bytea,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    agent_embeddings (model, namespace, agent) {
        model -> Text,
        namespace -> Text,
        agent -> Text,
        passage_hash -> Bytea,
        vector -> Bytea,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    embedding_models (model) {
        model -> Text,
        used_at -> Timestamptz,
        holder -> Nullable<Text>,
        held_until -> Nullable<Timestamptz>,
    }
}
