DROP TABLE steps;
DROP TABLE runs;
DROP TABLE workflow_history;
DROP TABLE workflows;
DELETE FROM change_log WHERE entity <> 'agent';
COMMENT ON COLUMN change_log.entity IS 'agent.';
COMMENT ON COLUMN change_log.namespace IS 'Of the entity.';
COMMENT ON COLUMN change_log.id IS 'Of the entity.';
COMMENT ON COLUMN change_log.op IS 'put or remove.';
