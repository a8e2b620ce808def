DROP TABLE agent_checks;
DELETE FROM change_log WHERE entity = 'agent_check';
