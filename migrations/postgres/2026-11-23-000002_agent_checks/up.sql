CREATE TABLE agent_checks (
    namespace text COLLATE "C" NOT NULL CHECK (length(namespace) BETWEEN 1 AND 128),
    id text COLLATE "C" NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    reachable boolean NOT NULL,
    detail text CHECK (length(detail) BETWEEN 1 AND 500),
    checked_at timestamptz NOT NULL,
    checked_by text NOT NULL,
    revision bigint NOT NULL CHECK (revision > 0),
    PRIMARY KEY (namespace, id)
);
COMMENT ON TABLE agent_checks IS 'The last contact with each agent that anybody has had; none means that it is only declared.';
COMMENT ON COLUMN agent_checks.namespace IS 'Of the agent.';
COMMENT ON COLUMN agent_checks.id IS 'Of the agent. The row of a purged one is pruned.';
COMMENT ON COLUMN agent_checks.reachable IS 'Whether the agent was reached.';
COMMENT ON COLUMN agent_checks.detail IS 'Why it was not, or what is remarkable about its answer.';
COMMENT ON COLUMN agent_checks.checked_at IS 'When; a contact before agents.updated_at says nothing of the agent as it is.';
COMMENT ON COLUMN agent_checks.checked_by IS 'Who has had the contact, as declared by the client.';
COMMENT ON COLUMN agent_checks.revision IS 'Raised at each contact that is noted.';

COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run or step.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check has that of its agent, a step that of its run, a slash, and its position. The steps of a new run are not named.';
