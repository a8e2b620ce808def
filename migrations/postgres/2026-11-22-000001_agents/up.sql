-- Text keys sort by bytes ("C"), as the in-memory registry does.

CREATE TABLE store_meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    change_log_pruned xid8 NOT NULL DEFAULT '0'
);
COMMENT ON TABLE store_meta IS 'One row about the store itself.';
COMMENT ON COLUMN store_meta.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN store_meta.epoch IS 'Changes when the content is replaced as a whole; a cache of another epoch is reconciled.';
COMMENT ON COLUMN store_meta.change_log_pruned IS 'The highest transaction whose change_log rows may be gone.';
INSERT INTO store_meta DEFAULT VALUES;

CREATE TABLE agents (
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id text COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    revision bigint NOT NULL CHECK (revision > 0),
    content_hash bytea NOT NULL CHECK (length(content_hash) = 32),
    name text NOT NULL,
    version text NOT NULL,
    description text NOT NULL,
    instructions text NOT NULL,
    category text NOT NULL,
    tags json NOT NULL,
    enabled boolean NOT NULL,
    capabilities json NOT NULL,
    executor_kind text NOT NULL,
    executor_settings json NOT NULL,
    config json NOT NULL,
    deprecated json,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deployed_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (namespace, id)
);
COMMENT ON TABLE agents IS 'The current document of each agent; json and not jsonb, because text comes back exactly as written.';
COMMENT ON COLUMN agents.namespace IS 'Agents of one namespace never meet those of another.';
COMMENT ON COLUMN agents.id IS 'Unique in the namespace.';
COMMENT ON COLUMN agents.revision IS 'Raised by one at each change, continued across removal and purge.';
COMMENT ON COLUMN agents.content_hash IS 'SHA-256 of the document as compact JSON.';
COMMENT ON COLUMN agents.name IS 'Display name.';
COMMENT ON COLUMN agents.version IS 'Semantic version.';
COMMENT ON COLUMN agents.description IS 'When to use it.';
COMMENT ON COLUMN agents.instructions IS 'The brief it works by.';
COMMENT ON COLUMN agents.category IS 'One word that groups agents.';
COMMENT ON COLUMN agents.tags IS 'Array of texts, sorted.';
COMMENT ON COLUMN agents.enabled IS 'A disabled agent gets no work.';
COMMENT ON COLUMN agents.capabilities IS 'Array of {name, description, input_schema, output_schema, example_queries}.';
COMMENT ON COLUMN agents.executor_kind IS 'pull, builtin, a2a, mcp, http or command.';
COMMENT ON COLUMN agents.executor_settings IS 'Settings of that kind.';
COMMENT ON COLUMN agents.config IS 'Free settings of the agent.';
COMMENT ON COLUMN agents.deprecated IS '{successor, reason} when it should no longer be chosen.';
COMMENT ON COLUMN agents.created_at IS 'When the id was first deployed.';
COMMENT ON COLUMN agents.updated_at IS 'When this revision was made.';
COMMENT ON COLUMN agents.deployed_at IS 'When it was last deployed; updates and restarts leave it.';
COMMENT ON COLUMN agents.updated_by IS 'Who made this revision, as declared by the client.';
COMMENT ON COLUMN agents.removed_at IS 'Set when it was removed; the row and its history stay until a purge.';

CREATE TABLE agent_history (LIKE agents, PRIMARY KEY (namespace, id, revision));
COMMENT ON TABLE agent_history IS 'Every replaced revision of an agent; the current one is in agents.';
COMMENT ON COLUMN agent_history.namespace IS 'As in agents.';
COMMENT ON COLUMN agent_history.id IS 'As in agents.';
COMMENT ON COLUMN agent_history.revision IS 'As in agents.';
COMMENT ON COLUMN agent_history.content_hash IS 'As in agents.';
COMMENT ON COLUMN agent_history.name IS 'As in agents.';
COMMENT ON COLUMN agent_history.version IS 'As in agents.';
COMMENT ON COLUMN agent_history.description IS 'As in agents.';
COMMENT ON COLUMN agent_history.instructions IS 'As in agents.';
COMMENT ON COLUMN agent_history.category IS 'As in agents.';
COMMENT ON COLUMN agent_history.tags IS 'As in agents.';
COMMENT ON COLUMN agent_history.enabled IS 'As in agents.';
COMMENT ON COLUMN agent_history.capabilities IS 'As in agents.';
COMMENT ON COLUMN agent_history.executor_kind IS 'As in agents.';
COMMENT ON COLUMN agent_history.executor_settings IS 'As in agents.';
COMMENT ON COLUMN agent_history.config IS 'As in agents.';
COMMENT ON COLUMN agent_history.deprecated IS 'As in agents.';
COMMENT ON COLUMN agent_history.created_at IS 'As in agents.';
COMMENT ON COLUMN agent_history.updated_at IS 'As in agents.';
COMMENT ON COLUMN agent_history.deployed_at IS 'As in agents.';
COMMENT ON COLUMN agent_history.updated_by IS 'As in agents.';
COMMENT ON COLUMN agent_history.removed_at IS 'As in agents.';

CREATE TABLE tombstones (
    entity text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    purged_at timestamptz NOT NULL,
    PRIMARY KEY (entity, namespace, id)
);
COMMENT ON TABLE tombstones IS 'What is left of a purged entity, so that its revisions go on when it is made again.';
COMMENT ON COLUMN tombstones.entity IS 'agent.';
COMMENT ON COLUMN tombstones.namespace IS 'Of the entity.';
COMMENT ON COLUMN tombstones.id IS 'Of the entity.';
COMMENT ON COLUMN tombstones.revision IS 'The revision of the purge.';
COMMENT ON COLUMN tombstones.purged_at IS 'When it was purged.';

CREATE TABLE change_log (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    entity text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    op text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (xid, seq)
);
COMMENT ON TABLE change_log IS 'What every other process reads to follow the store. Holds no content and is pruned.';
COMMENT ON COLUMN change_log.xid IS 'The transaction that made the change: readers take what their last snapshot could not see.';
COMMENT ON COLUMN change_log.seq IS 'Makes rows of one transaction distinct. Not an order: a lower number may commit later.';
COMMENT ON COLUMN change_log.entity IS 'agent.';
COMMENT ON COLUMN change_log.namespace IS 'Of the entity.';
COMMENT ON COLUMN change_log.id IS 'Of the entity.';
COMMENT ON COLUMN change_log.revision IS 'The revision that the change made.';
COMMENT ON COLUMN change_log.op IS 'put or remove.';
COMMENT ON COLUMN change_log.at IS 'Start of the transaction; rows are pruned by age.';

CREATE TABLE applied_ops (
    op_id uuid PRIMARY KEY,
    entity text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    replaced_revision bigint,
    op text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE applied_ops IS 'Recent writes by their id: a retry after an unknown outcome finds here that it was applied. Pruned.';
COMMENT ON COLUMN applied_ops.op_id IS 'Made by the writing process, ordered by time.';
COMMENT ON COLUMN applied_ops.entity IS 'agent.';
COMMENT ON COLUMN applied_ops.namespace IS 'Of the entity.';
COMMENT ON COLUMN applied_ops.id IS 'Of the entity.';
COMMENT ON COLUMN applied_ops.revision IS 'The revision that the write made.';
COMMENT ON COLUMN applied_ops.replaced_revision IS 'The live revision that it replaced.';
COMMENT ON COLUMN applied_ops.op IS 'put, remove or purge.';
COMMENT ON COLUMN applied_ops.at IS 'When it was written; rows are pruned by age.';

CREATE TABLE tool_usage (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    tool text NOT NULL,
    agent text,
    actor text NOT NULL,
    duration_us bigint NOT NULL,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    error_code text
);
COMMENT ON TABLE tool_usage IS 'Every tool call, the source of analytics. Pruned by age.';
COMMENT ON COLUMN tool_usage.id IS 'Row number.';
COMMENT ON COLUMN tool_usage.at IS 'When the call came in, by the clock of the serving process.';
COMMENT ON COLUMN tool_usage.tool IS 'Name of the tool.';
COMMENT ON COLUMN tool_usage.agent IS 'The one agent that the call was about, if it was about one.';
COMMENT ON COLUMN tool_usage.actor IS 'Who called, as declared by the client.';
COMMENT ON COLUMN tool_usage.duration_us IS 'Microseconds until the answer.';
COMMENT ON COLUMN tool_usage.request_bytes IS 'Size of the arguments as JSON.';
COMMENT ON COLUMN tool_usage.response_bytes IS 'Size of the structured result as JSON.';
COMMENT ON COLUMN tool_usage.error_code IS 'Code of the error, null for success.';
CREATE INDEX tool_usage_at ON tool_usage (at);
