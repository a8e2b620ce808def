DROP INDEX steps_left_open;
