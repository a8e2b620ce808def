DROP TABLE memories;
DROP TABLE agent_personalities;
DELETE FROM change_log WHERE entity IN ('memory', 'personality');
DELETE FROM applied_ops WHERE entity IN ('memory', 'personality');
COMMENT ON COLUMN change_log.entity IS 'agent, agent_check, workflow, run or step.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; an agent_check has that of its agent, a step that of its run, a slash, and its position. The steps of a new run are not named.';
COMMENT ON COLUMN applied_ops.entity IS 'agent.';
COMMENT ON COLUMN applied_ops.op IS 'put, remove or purge.';
