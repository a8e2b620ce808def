DROP TABLE tool_usage;
DROP TABLE applied_ops;
DROP TABLE change_log;
DROP TABLE tombstones;
DROP TABLE agent_history;
DROP TABLE agents;
DROP TABLE store_meta;
