-- Room is left in each page, so that being recalled stays in it and touches no index.
CREATE TABLE memories (
    id text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    kind text COLLATE "C" NOT NULL CHECK (kind IN
        ('conversation', 'procedural', 'episodic', 'semantic', 'tool_usage', 'preference')),
    content text NOT NULL,
    data json,
    tags json NOT NULL,
    importance real NOT NULL CHECK (importance BETWEEN 0 AND 1),
    decay real NOT NULL CHECK (decay BETWEEN 0 AND 1),
    expires_at timestamptz,
    key text COLLATE "C",
    agent text COLLATE "C",
    session text COLLATE "C",
    user_name text COLLATE "C",
    run_id text COLLATE "C",
    step text,
    supersedes json NOT NULL,
    relations json NOT NULL,
    author text NOT NULL,
    trust text COLLATE "C" NOT NULL CHECK (trust IN ('external', 'agent', 'user', 'operator')),
    derived_from json NOT NULL,
    content_hash bytea NOT NULL CHECK (length(content_hash) = 32),
    frequency bigint NOT NULL CHECK (frequency > 0),
    accesses bigint NOT NULL CHECK (accesses >= 0),
    last_accessed timestamptz NOT NULL,
    superseded_by text COLLATE "C",
    revision bigint NOT NULL CHECK (revision > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    removed_at timestamptz
) WITH (fillfactor = 90);
COMMENT ON TABLE memories IS 'What agents and people have told to be remembered.';
COMMENT ON COLUMN memories.id IS 'Made by the process that stored it; unique everywhere.';
COMMENT ON COLUMN memories.namespace IS 'Memories of one namespace are never recalled in another.';
COMMENT ON COLUMN memories.kind IS 'conversation, procedural, episodic, semantic, tool_usage or preference.';
COMMENT ON COLUMN memories.content IS 'What is remembered, in words.';
COMMENT ON COLUMN memories.data IS 'The same in a form for programs, an object.';
COMMENT ON COLUMN memories.tags IS 'Array of texts, sorted.';
COMMENT ON COLUMN memories.importance IS '0 to 1.';
COMMENT ON COLUMN memories.decay IS 'The part of its strength that it loses in a day, 0 to 1.';
COMMENT ON COLUMN memories.expires_at IS 'From then on it is out of recall; deleted some days later.';
COMMENT ON COLUMN memories.key IS 'Names the fact: a newer memory of the same key, agent and user takes its place.';
COMMENT ON COLUMN memories.agent IS 'Whose it is; kept when the agent goes.';
COMMENT ON COLUMN memories.session IS 'The conversation or work session that it belongs to.';
COMMENT ON COLUMN memories.user_name IS 'Whom it is about or who said it.';
COMMENT ON COLUMN memories.run_id IS 'The run that it comes from, which may be gone.';
COMMENT ON COLUMN memories.step IS 'The step of that run.';
COMMENT ON COLUMN memories.supersedes IS 'Array of the ids of memories whose place it was told to take.';
COMMENT ON COLUMN memories.relations IS 'Array of {kind, to}.';
COMMENT ON COLUMN memories.author IS 'Who told it first, as declared by the client.';
COMMENT ON COLUMN memories.trust IS 'How far it may be relied on: external, agent, user or operator. It never rises.';
COMMENT ON COLUMN memories.derived_from IS 'Array of the ids of memories that it was made from.';
COMMENT ON COLUMN memories.content_hash IS 'SHA-256 of what it says: what says the same is kept once.';
COMMENT ON COLUMN memories.frequency IS 'How often it was told.';
COMMENT ON COLUMN memories.accesses IS 'How often it was recalled, noted within a second.';
COMMENT ON COLUMN memories.last_accessed IS 'When it was last told or recalled.';
COMMENT ON COLUMN memories.superseded_by IS 'The memory that took its place.';
COMMENT ON COLUMN memories.revision IS 'Raised at each change, but not when it is recalled.';
COMMENT ON COLUMN memories.created_at IS 'When it was first told.';
COMMENT ON COLUMN memories.updated_at IS 'When it last changed.';
COMMENT ON COLUMN memories.updated_by IS 'Who made the last change, as declared by the client.';
COMMENT ON COLUMN memories.removed_at IS 'Set when it was forgotten; deleted some weeks later.';
CREATE INDEX memories_content_hash ON memories (content_hash);
CREATE INDEX memories_key ON memories (namespace, key) WHERE key IS NOT NULL;
CREATE INDEX memories_expiring ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memories_removed ON memories (removed_at) WHERE removed_at IS NOT NULL;

CREATE TABLE agent_personalities (
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id text COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    caution real NOT NULL CHECK (caution BETWEEN 0 AND 1),
    thoroughness real NOT NULL CHECK (thoroughness BETWEEN 0 AND 1),
    creativity real NOT NULL CHECK (creativity BETWEEN 0 AND 1),
    cooperation real NOT NULL CHECK (cooperation BETWEEN 0 AND 1),
    interactions bigint NOT NULL CHECK (interactions >= 0),
    positive bigint NOT NULL CHECK (positive >= 0),
    negative bigint NOT NULL CHECK (negative >= 0),
    capabilities json NOT NULL,
    revision bigint NOT NULL CHECK (revision >= 0),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, id)
);
COMMENT ON TABLE agent_personalities IS 'What each agent has experienced: what it is like, and how its work ended.';
COMMENT ON COLUMN agent_personalities.namespace IS 'Of the agent.';
COMMENT ON COLUMN agent_personalities.id IS 'Of the agent, which may be gone.';
COMMENT ON COLUMN agent_personalities.confidence IS 'A trait, 0 to 1.';
COMMENT ON COLUMN agent_personalities.caution IS 'A trait, 0 to 1.';
COMMENT ON COLUMN agent_personalities.thoroughness IS 'A trait, 0 to 1.';
COMMENT ON COLUMN agent_personalities.creativity IS 'A trait, 0 to 1.';
COMMENT ON COLUMN agent_personalities.cooperation IS 'A trait, 0 to 1.';
COMMENT ON COLUMN agent_personalities.interactions IS 'How many experiences there were.';
COMMENT ON COLUMN agent_personalities.positive IS 'How many of them were good.';
COMMENT ON COLUMN agent_personalities.negative IS 'How many of them were bad.';
COMMENT ON COLUMN agent_personalities.capabilities IS 'By capability how the work ended: {worked, failed, recent_worked, recent, at}.';
COMMENT ON COLUMN agent_personalities.revision IS 'Raised at each experience.';
COMMENT ON COLUMN agent_personalities.updated_at IS 'When the last one was made.';

COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run, step, memory or personality.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check and a personality have that of their agent, a step that of its run, a slash, and its position. The steps of a new run are not named.';
COMMENT ON COLUMN applied_ops.entity IS 'agent, workflow, memory or personality.';
COMMENT ON COLUMN applied_ops.op IS 'put, remove or purge; of a memory create, repeat, update, forget or purge; of a personality learn.';
