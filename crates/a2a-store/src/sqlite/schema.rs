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

diesel::table! {
    workflows (namespace, id) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Binary,
        document -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        updated_by -> Text,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    workflow_history (namespace, id, revision) {
        namespace -> Text,
        id -> Text,
        revision -> BigInt,
        content_hash -> Binary,
        document -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        updated_by -> Text,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    runs (id) {
        id -> Text,
        namespace -> Text,
        workflow_id -> Nullable<Text>,
        workflow_revision -> Nullable<BigInt>,
        definition_hash -> Binary,
        definition -> Text,
        status -> Text,
        paused -> Bool,
        priority -> BigInt,
        context -> Text,
        input -> Text,
        result -> Nullable<Text>,
        error -> Nullable<Text>,
        idempotency_key -> Nullable<Text>,
        forked_from -> Nullable<Text>,
        revision -> BigInt,
        created_at -> BigInt,
        created_by -> Text,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        timeout_at -> Nullable<BigInt>,
        updated_at -> BigInt,
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
        executor_settings -> Text,
        status -> Text,
        attempt -> BigInt,
        failures -> BigInt,
        input -> Nullable<Text>,
        output -> Nullable<Text>,
        error -> Nullable<Text>,
        wait -> Nullable<Text>,
        answer -> Nullable<Text>,
        checkpoint -> Nullable<Text>,
        progress -> Nullable<Text>,
        lease_owner -> Nullable<Text>,
        lease_until -> Nullable<BigInt>,
        progress_until -> Nullable<BigInt>,
        timeout_at -> Nullable<BigInt>,
        due_at -> Nullable<BigInt>,
        ready_at -> Nullable<BigInt>,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        revision -> BigInt,
    }
}

diesel::table! {
    agent_checks (namespace, id) {
        namespace -> Text,
        id -> Text,
        reachable -> Bool,
        detail -> Nullable<Text>,
        checked_at -> BigInt,
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
        started_at -> BigInt,
        seen_at -> BigInt,
    }
}

diesel::table! {
    memories (id) {
        id -> Text,
        namespace -> Text,
        kind -> Text,
        content -> Text,
        data -> Nullable<Text>,
        tags -> Text,
        importance -> Float,
        decay -> Float,
        expires_at -> Nullable<BigInt>,
        key -> Nullable<Text>,
        agent -> Nullable<Text>,
        session -> Nullable<Text>,
        user_name -> Nullable<Text>,
        run_id -> Nullable<Text>,
        step -> Nullable<Text>,
        supersedes -> Text,
        relations -> Text,
        author -> Text,
        trust -> Text,
        derived_from -> Text,
        content_hash -> Binary,
        frequency -> BigInt,
        accesses -> BigInt,
        last_accessed -> BigInt,
        superseded_by -> Nullable<Text>,
        revision -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        updated_by -> Text,
        removed_at -> Nullable<BigInt>,
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
        capabilities -> Text,
        revision -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    memory_embeddings (model, memory) {
        model -> Text,
        memory -> Text,
        vector -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    agent_embeddings (model, namespace, agent) {
        model -> Text,
        namespace -> Text,
        agent -> Text,
        passage_hash -> Binary,
        vector -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    embedding_models (model) {
        model -> Text,
        used_at -> BigInt,
        holder -> Nullable<Text>,
        held_until -> Nullable<BigInt>,
    }
}
