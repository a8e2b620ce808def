DROP TABLE agent_checks;
DELETE FROM change_log WHERE entity = 'agent_check';
COMMENT ON COLUMN change_log.entity IS 'agent, workflow, run or step.';
COMMENT ON COLUMN change_log.id IS 'Of the entity; a step has that of its run, a slash, and its position. The steps of a new run are not named.';
