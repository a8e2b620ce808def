-- Steps that have ended while a task went on that they had begun at an agent of the A2A protocol.
CREATE INDEX steps_left_open ON steps (run_id)
    WHERE finished_at IS NOT NULL AND checkpoint IS NOT NULL AND executor_kind = 'a2a';
