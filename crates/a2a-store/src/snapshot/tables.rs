//! The tables that a copy holds.

/// What a column holds, and how it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// JSON, as the text that was stored.
    Json,
    /// A whole number.
    Integer,
    /// A truth value.
    Boolean,
    /// Milliseconds since 1970.
    Time,
    /// A number of four bytes.
    Real,
    /// Bytes in hexadecimal.
    Bytes,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in both backends.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name in both backends.
    pub name: &'static str,
    /// All that travels.
    pub columns: &'static [Column],
    /// The columns by which rows are ordered, separated by commas.
    pub key: &'static str,
    /// Whether rows in it mean that the database is in use.
    pub is_content: bool,
}

impl Table {
    /// The names of its columns, separated by commas.
    #[must_use]
    pub fn column_names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}

macro_rules! columns {
    ($($name:ident $kind:ident),* $(,)?) => { &[$(Column { name: stringify!($name), kind: Kind::$kind }),*] };
}

const AGENT: &[Column] = columns!(
    namespace Text, id Text, revision Integer, content_hash Bytes, name Text, version Text, description Text,
    instructions Text, category Text, tags Json, enabled Boolean, capabilities Json, executor_kind Text,
    executor_settings Json, config Json, deprecated Json, created_at Time, updated_at Time, deployed_at Time,
    updated_by Text, removed_at Time,
);
const WORKFLOW: &[Column] = columns!(
    namespace Text, id Text, revision Integer, content_hash Bytes, document Json, created_at Time, updated_at Time,
    updated_by Text, removed_at Time,
);

/// All tables, in the order in which they travel.
pub const TABLES: &[Table] = &[
    Table {
        name: "tombstones",
        columns: columns!(entity Text, namespace Text, id Text, revision Integer, purged_at Time),
        key: "entity, namespace, id",
        is_content: true,
    },
    Table { name: "agents", columns: AGENT, key: "namespace, id", is_content: true },
    Table { name: "agent_history", columns: AGENT, key: "namespace, id, revision", is_content: true },
    Table {
        name: "agent_checks",
        columns: columns!(
            namespace Text, id Text, reachable Boolean, detail Text, checked_at Time, checked_by Text, revision Integer,
        ),
        key: "namespace, id",
        is_content: true,
    },
    Table {
        name: "agent_personalities",
        columns: columns!(
            namespace Text, id Text, confidence Real, caution Real, thoroughness Real, creativity Real, cooperation Real,
            interactions Integer, positive Integer, negative Integer, capabilities Json, revision Integer,
            updated_at Time,
        ),
        key: "namespace, id",
        is_content: true,
    },
    Table { name: "workflows", columns: WORKFLOW, key: "namespace, id", is_content: true },
    Table { name: "workflow_history", columns: WORKFLOW, key: "namespace, id, revision", is_content: true },
    Table {
        name: "runs",
        columns: columns!(
            id Text, namespace Text, workflow_id Text, workflow_revision Integer, definition_hash Bytes, definition Json,
            status Text, paused Boolean, priority Integer, context Json, input Json, result Json, error Text,
            idempotency_key Text, forked_from Text, revision Integer, created_at Time, created_by Text, started_at Time,
            finished_at Time, timeout_at Time, updated_at Time, updated_by Text,
        ),
        key: "id",
        is_content: true,
    },
    Table {
        name: "steps",
        columns: columns!(
            run_id Text, ord Integer, name Text, agent Text, executor_kind Text, executor_settings Json, status Text,
            attempt Integer, failures Integer, input Json, output Json, error Text, wait Json, answer Json,
            checkpoint Json, progress Json, lease_owner Text, lease_until Time, progress_until Time, timeout_at Time,
            due_at Time, ready_at Time, started_at Time, finished_at Time, revision Integer,
        ),
        key: "run_id, ord",
        is_content: true,
    },
    Table {
        name: "memories",
        columns: columns!(
            id Text, namespace Text, kind Text, content Text, data Json, tags Json, importance Real, decay Real,
            expires_at Time, key Text, agent Text, session Text, user_name Text, run_id Text, step Text, supersedes Json,
            relations Json, author Text, trust Text, derived_from Json, content_hash Bytes, frequency Integer,
            accesses Integer, last_accessed Time, superseded_by Text, revision Integer, created_at Time, updated_at Time,
            updated_by Text, removed_at Time,
        ),
        key: "id",
        is_content: true,
    },
    Table {
        name: "tool_usage",
        columns: columns!(
            at Time, tool Text, agent Text, actor Text, duration_us Integer, request_bytes Integer,
            response_bytes Integer, error_code Text,
        ),
        key: "id",
        is_content: false,
    },
];
