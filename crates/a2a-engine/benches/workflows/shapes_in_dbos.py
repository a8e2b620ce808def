"""The shapes in DBOS Transact: reads one on each line, prints how many seconds it took.

As its documentation recommends: steps are functions of a workflow, those that run at once are gathered, and workflows
that run at once are started in the background.
"""

import asyncio
import json
import sys
import time

from dbos import DBOS


@DBOS.step()
def echo(number):
    return {'number': number}


@DBOS.step()
async def echo_async(number):
    return {'number': number}


@DBOS.workflow()
def chain(steps):
    for number in range(steps):
        echo(number)
    return 'done'


@DBOS.workflow()
async def fan_out(steps):
    await asyncio.gather(*(echo_async(number) for number in range(steps)))
    return 'done'


def run(shape):
    if shape['chained']:
        handles = [DBOS.start_workflow(chain, shape['steps']) for _ in range(shape['runs'])]
        results = [handle.get_result(polling_interval_sec=0.001) for handle in handles]
    else:
        results = [asyncio.run(fan_out(shape['steps']))]
    assert results == ['done'] * shape['runs'], results


DBOS(config={'name': 'bench', 'system_database_url': sys.argv[1], 'log_level': 'ERROR'})
DBOS.launch()
print('ready', flush=True)
for line in sys.stdin:
    shape = json.loads(line)
    begin = time.perf_counter()
    run(shape)
    print(time.perf_counter() - begin, flush=True)
