//! Every limit on input, in one place. Sizes are bytes of UTF-8 unless a name says otherwise.

/// Longest line of the wire protocol.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest id of any entity, and longest namespace.
pub const ID_CHARS_MAX: usize = 128;
/// Longest display name, and longest capability name.
pub const NAME_CHARS_MAX: usize = 200;
/// Longest category.
pub const CATEGORY_CHARS_MAX: usize = 64;
/// Longest description of an agent or a capability.
pub const DESCRIPTION_BYTES_MAX: usize = 8 * 1024;
/// Largest whole document of one entity, as compact JSON.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of any JSON that is accepted.
pub const JSON_DEPTH_MAX: usize = 64;
/// Most tags of one entity.
pub const TAGS_MAX: usize = 64;
/// Longest tag.
pub const TAG_CHARS_MAX: usize = 64;
/// Most capabilities of one agent.
pub const CAPABILITIES_MAX: usize = 64;
/// Most example queries of one capability.
pub const EXAMPLE_QUERIES_MAX: usize = 16;
/// Longest example query.
pub const EXAMPLE_QUERY_CHARS_MAX: usize = 500;
/// Longest search query.
pub const QUERY_CHARS_MAX: usize = 1_000;
/// Longest self-declared name of who made a change.
pub const ACTOR_CHARS_MAX: usize = 200;
/// Longest text that is kept of a contact with an agent.
pub const CHECK_DETAIL_CHARS_MAX: usize = 500;
/// Most items of one batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Most rows of one page.
pub const PAGE_ROWS_MAX: usize = 200;
/// Most calls one process works on at once.
pub const CALLS_IN_WORK_MAX: usize = 64;
/// Most changes waiting for the writer.
pub const QUEUE_CHANGES_MAX: usize = 4_096;
/// Most bytes of changes waiting for the writer.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most steps of one workflow.
pub const WORKFLOW_STEPS_MAX: usize = 500;
/// Longest name of a step.
pub const STEP_NAME_CHARS_MAX: usize = 64;
/// Most attempts of one step.
pub const ATTEMPTS_MAX: u16 = 100;
/// Longest pause between two attempts, in milliseconds: a day.
pub const BACKOFF_MS_MAX: u32 = 24 * 60 * 60 * 1_000;
/// Longest timeout of a step or a run, in seconds: a year.
pub const TIMEOUT_S_MAX: u32 = 366 * 24 * 60 * 60;
/// Furthest that a waiting step may look ahead, in seconds: ten years.
pub const WAIT_S_MAX: u32 = 10 * 366 * 24 * 60 * 60;
/// Largest output of one step, and largest result of a run, as compact JSON.
pub const STEP_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of outputs that the expressions of one step, or of the result of a run, can read.
pub const EXPRESSION_READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of inputs and outputs that a fork takes over: they are written in one transaction.
pub const FORK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest question of a step, in characters.
pub const QUESTION_CHARS_MAX: usize = 8_000;
/// Longest error that is kept of a step or a run, in characters.
pub const ERROR_CHARS_MAX: usize = 4_000;
/// Highest priority of a run; 0 is the lowest.
pub const PRIORITY_MAX: i16 = 9;
/// Most runs that go on at once in one database: each is in the memory of every process.
pub const LIVE_RUNS_MAX: usize = 10_000;
/// Most unfinished steps of one agent over all runs that go on.
pub const AGENT_STEPS_MAX: usize = 10_000;
/// Longest content of one memory.
pub const MEMORY_CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Longest key of a memory, and longest session and user.
pub const MEMORY_KEY_CHARS_MAX: usize = 128;
/// Most relations of one memory, and most memories that one supersedes or is derived from.
pub const MEMORY_RELATIONS_MAX: usize = 64;
/// Longest kind of a relation.
pub const RELATION_KIND_CHARS_MAX: usize = 64;
/// Longest comment of a feedback, in characters.
pub const FEEDBACK_COMMENT_CHARS_MAX: usize = 2_000;
/// Most memories of one agent.
pub const AGENT_MEMORIES_MAX: usize = 100_000;
/// Most memories of one namespace: each is in the memory of every process.
pub const MEMORIES_MAX: usize = 1_000_000;
/// Most turns of one session that are kept; then the oldest are forgotten.
pub const SESSION_TURNS_KEPT_MAX: usize = 10_000;
/// Most turns of a session that one call reads.
pub const SESSION_TURNS_MAX: usize = 200;
