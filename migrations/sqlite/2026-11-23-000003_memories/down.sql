DROP TABLE memories;
DROP TABLE agent_personalities;
DELETE FROM change_log WHERE entity IN ('memory', 'personality');
DELETE FROM applied_ops WHERE entity IN ('memory', 'personality');
