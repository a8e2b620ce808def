DROP TABLE steps;
DROP TABLE runs;
DROP TABLE workflow_history;
DROP TABLE workflows;
DELETE FROM change_log WHERE entity <> 'agent';
DELETE FROM applied_ops WHERE entity <> 'agent';
