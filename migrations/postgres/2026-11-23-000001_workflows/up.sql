CREATE TABLE workflows (
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id text COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    revision bigint NOT NULL CHECK (revision > 0),
    content_hash bytea NOT NULL CHECK (length(content_hash) = 32),
    document json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (namespace, id)
);
COMMENT ON TABLE workflows IS 'The current document of each workflow.';
COMMENT ON COLUMN workflows.namespace IS 'Its steps use agents of the same namespace.';
COMMENT ON COLUMN workflows.id IS 'Unique in the namespace.';
COMMENT ON COLUMN workflows.revision IS 'The version: raised by one at each change, continued across removal.';
COMMENT ON COLUMN workflows.content_hash IS 'SHA-256 of the document.';
COMMENT ON COLUMN workflows.document IS 'Name, description, default context, steps, result and limits; json and not jsonb, because text comes back exactly as written.';
COMMENT ON COLUMN workflows.created_at IS 'When the id was first saved.';
COMMENT ON COLUMN workflows.updated_at IS 'When this revision was made.';
COMMENT ON COLUMN workflows.updated_by IS 'Who made this revision, as declared by the client.';
COMMENT ON COLUMN workflows.removed_at IS 'Set when it was removed; the row and its history stay.';

CREATE TABLE workflow_history (LIKE workflows, PRIMARY KEY (namespace, id, revision));
COMMENT ON TABLE workflow_history IS 'Every replaced revision of a workflow; the current one is in workflows.';
COMMENT ON COLUMN workflow_history.namespace IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.id IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.revision IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.content_hash IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.document IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.created_at IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.updated_at IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.updated_by IS 'As in workflows.';
COMMENT ON COLUMN workflow_history.removed_at IS 'As in workflows.';

-- Room is left in each page, so that an update of a row stays in it and touches no index.
CREATE TABLE runs (
    id text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    workflow_id text COLLATE "C" CHECK (length(workflow_id) BETWEEN 1 AND 128),
    workflow_revision bigint CHECK (workflow_revision > 0),
    definition_hash bytea NOT NULL CHECK (length(definition_hash) = 32),
    definition json NOT NULL,
    status text COLLATE "C" NOT NULL
        CHECK (status IN ('PENDING', 'RUNNING', 'WAITING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    paused boolean NOT NULL,
    priority bigint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    context json NOT NULL,
    input json NOT NULL,
    result json,
    error text,
    idempotency_key text COLLATE "C" CHECK (length(idempotency_key) BETWEEN 1 AND 256),
    forked_from text COLLATE "C" CHECK (length(forked_from) BETWEEN 1 AND 128),
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    timeout_at timestamptz,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    CHECK ((finished_at IS NOT NULL) = (status IN ('COMPLETED', 'FAILED', 'CANCELLED')))
) WITH (fillfactor = 80);
COMMENT ON TABLE runs IS 'One execution of a workflow. Those that have ended are pruned by age.';
COMMENT ON COLUMN runs.id IS 'Made by the process that started it; unique everywhere.';
COMMENT ON COLUMN runs.namespace IS 'The namespace of its agents.';
COMMENT ON COLUMN runs.workflow_id IS 'The workflow that it executes, null for steps that were given with the call.';
COMMENT ON COLUMN runs.workflow_revision IS 'The revision of that workflow.';
COMMENT ON COLUMN runs.definition_hash IS 'SHA-256 of the definition: runs of the same definition share one in memory.';
COMMENT ON COLUMN runs.definition IS 'Snapshot of what it executes, in the form of workflows.document; steps are numbered by their position in it.';
COMMENT ON COLUMN runs.status IS 'PENDING, RUNNING, WAITING, COMPLETED, FAILED or CANCELLED.';
COMMENT ON COLUMN runs.paused IS 'Nothing new is begun while this holds.';
COMMENT ON COLUMN runs.priority IS '0 to 9; steps of a higher one are taken first.';
COMMENT ON COLUMN runs.context IS 'What expressions see as context.';
COMMENT ON COLUMN runs.input IS 'What expressions see as input.';
COMMENT ON COLUMN runs.result IS 'What came of it, once it has completed.';
COMMENT ON COLUMN runs.error IS 'Why it has failed, or will fail when its compensation is done.';
COMMENT ON COLUMN runs.idempotency_key IS 'Starting again with the same key finds this run.';
COMMENT ON COLUMN runs.forked_from IS 'The run whose results it took over.';
COMMENT ON COLUMN runs.revision IS 'Raised at each change of this row; steps have their own.';
COMMENT ON COLUMN runs.created_at IS 'When it was asked for.';
COMMENT ON COLUMN runs.created_by IS 'Who asked for it, as declared by the client.';
COMMENT ON COLUMN runs.started_at IS 'When the first step was taken.';
COMMENT ON COLUMN runs.finished_at IS 'When it ended; null while it goes on.';
COMMENT ON COLUMN runs.timeout_at IS 'When it fails because it takes too long.';
COMMENT ON COLUMN runs.updated_at IS 'When it last changed.';
COMMENT ON COLUMN runs.updated_by IS 'Who made the last change, as declared by the client.';
-- Live runs are told by finished_at and not by status, because a run changes its status more often than it ends.
CREATE INDEX runs_live ON runs (id) WHERE finished_at IS NULL;
CREATE INDEX runs_listed ON runs (namespace, created_at, id);
CREATE INDEX runs_by_status ON runs (namespace, status, created_at, id);
CREATE INDEX runs_by_workflow ON runs (namespace, workflow_id, created_at, id) WHERE workflow_id IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX runs_idempotency_key ON runs (namespace, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Written and deleted together with their run and by nobody else, so that a foreign key would only cost time.
CREATE TABLE steps (
    run_id text COLLATE "C" NOT NULL CHECK (length(run_id) BETWEEN 1 AND 128),
    ord bigint NOT NULL CHECK (ord BETWEEN 0 AND 9999),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    agent text NOT NULL CHECK (length(agent) BETWEEN 1 AND 128),
    executor_kind text NOT NULL,
    executor_settings json NOT NULL,
    status text COLLATE "C" NOT NULL CHECK (status IN
        ('PENDING', 'READY', 'RUNNING', 'WAITING', 'COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')),
    attempt bigint NOT NULL CHECK (attempt >= 0),
    failures bigint NOT NULL CHECK (failures >= 0),
    input json,
    output json,
    error text,
    wait json,
    answer json,
    checkpoint json,
    progress json,
    lease_owner text,
    lease_until timestamptz,
    progress_until timestamptz,
    timeout_at timestamptz,
    due_at timestamptz,
    ready_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    revision bigint NOT NULL CHECK (revision >= 0),
    PRIMARY KEY (run_id, ord)
) WITH (fillfactor = 80);
COMMENT ON TABLE steps IS 'The steps of a run. What does not change is in the definition of the run.';
COMMENT ON COLUMN steps.run_id IS 'The run.';
COMMENT ON COLUMN steps.ord IS 'Position in the definition, from 0.';
COMMENT ON COLUMN steps.name IS 'Its name in the definition.';
COMMENT ON COLUMN steps.agent IS 'Who does it.';
COMMENT ON COLUMN steps.executor_kind IS 'How that agent worked when the run was started: pull, builtin, a2a, mcp, http or command.';
COMMENT ON COLUMN steps.executor_settings IS 'Settings of that kind, of the same time.';
COMMENT ON COLUMN steps.status IS 'PENDING, READY, RUNNING, WAITING, COMPLETED, FAILED, SKIPPED or CANCELLED.';
COMMENT ON COLUMN steps.attempt IS 'Raised at each claim: whatever a worker sends must name the current one.';
COMMENT ON COLUMN steps.failures IS 'Attempts that failed or whose worker vanished.';
COMMENT ON COLUMN steps.input IS 'Evaluated when the step became ready.';
COMMENT ON COLUMN steps.output IS 'What the worker handed in.';
COMMENT ON COLUMN steps.error IS 'Why the last attempt failed.';
COMMENT ON COLUMN steps.wait IS 'Why it waits: {kind, question, schema, completes}, kind being retry, timer or answer.';
COMMENT ON COLUMN steps.answer IS 'The answer to the question of the step.';
COMMENT ON COLUMN steps.checkpoint IS 'What an executor has noted, so that another process goes on where it stood.';
COMMENT ON COLUMN steps.progress IS 'How far the worker says it is: {message, percent, at}, at in milliseconds since 1970.';
COMMENT ON COLUMN steps.lease_owner IS 'Which process has it, and which claim of that process.';
COMMENT ON COLUMN steps.lease_until IS 'Without a sign of that process until then, the step is given to another.';
COMMENT ON COLUMN steps.progress_until IS 'Without a call about the claim until then, the step is given to another.';
COMMENT ON COLUMN steps.timeout_at IS 'When this attempt has taken too long.';
COMMENT ON COLUMN steps.due_at IS 'When a waiting step goes on by itself.';
COMMENT ON COLUMN steps.ready_at IS 'When it became ready.';
COMMENT ON COLUMN steps.started_at IS 'When it was first claimed.';
COMMENT ON COLUMN steps.finished_at IS 'When it ended.';
COMMENT ON COLUMN steps.revision IS 'Raised at each change.';

COMMENT ON COLUMN applied_ops.op_id IS 'Made by the writing process, ordered by time; for a step made of its claim and what came of it.';
COMMENT ON COLUMN applied_ops.entity IS 'agent, workflow, or step, whose claim was given back or has failed.';
COMMENT ON COLUMN applied_ops.id IS 'Of the entity; a step has that of its run, a slash, and its position.';
COMMENT ON COLUMN change_log.entity IS 'agent, workflow, run or step.';
COMMENT ON COLUMN change_log.namespace IS 'Of the entity; of a step that of its run.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; a step has that of its run, a slash, and its position. The steps of a new run are not named.';
COMMENT ON COLUMN change_log.op IS 'put or remove; the remove of a run says that it has ended.';
