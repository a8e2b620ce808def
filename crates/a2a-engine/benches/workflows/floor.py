"""Commits rows one by one: reads how many on each line, prints how many seconds they took."""

import sqlite3
import sys
import time

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA journal_mode = WAL')
connection.execute('PRAGMA synchronous = FULL')
connection.execute('CREATE TABLE floor (id INTEGER PRIMARY KEY, output TEXT NOT NULL)')
print('ready', flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    for number in range(int(line)):
        connection.execute('INSERT INTO floor (output) VALUES (?)', ('{"number":%d}' % number,))
    print(time.perf_counter() - begin, flush=True)
