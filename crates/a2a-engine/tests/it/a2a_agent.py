"""An agent of the A2A protocol on the reference SDK, for tests.

The first word of a message says what the agent does. Behind /control it tells what it has received, and waits
are ended there, so that no test depends on time.
"""

import asyncio
import json
import socket
import sys
from collections import Counter, defaultdict

import uvicorn
from a2a.helpers.proto_helpers import (
    get_data_parts,
    new_data_part,
    new_task_from_user_message,
    new_text_part,
    new_url_part,
)
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes.agent_card_routes import create_agent_card_routes
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, Part, Role
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

received = Counter()  # message ids as they come over the wire
executed = Counter()  # message ids as the agent works on them
cancelled = Counter()  # tasks whose cancellation was asked for
calls = Counter()  # methods
gates = defaultdict(asyncio.Event)  # what waits until it is released
reached = defaultdict(asyncio.Event)  # that something waits there
broken = Counter()  # methods whose next responses are lost after the work was done
away = Counter()  # methods whose next calls fail before anything is done


async def gate(name):
    reached[name].set()
    await gates[name].wait()


class Agent(AgentExecutor):
    async def execute(self, context, event_queue):
        message = context.message
        executed[message.message_id] += 1
        text = context.get_user_input()
        word, _, rest = text.partition(' ')
        task = context.current_task
        if task is not None:
            return await self.go_on(context, TaskUpdater(event_queue, task.id, task.context_id), text)
        if word == 'message':
            reply = Message(role=Role.ROLE_AGENT, message_id='reply-' + message.message_id)
            reply.parts.append(new_text_part(rest))
            return await event_queue.enqueue_event(reply)
        if word == 'mute':
            await gate(rest)
            reply = Message(role=Role.ROLE_AGENT, message_id='reply-' + message.message_id)
            reply.parts.append(new_text_part('at last'))
            return await event_queue.enqueue_event(reply)
        if word == 'crash':
            raise RuntimeError('the agent has crashed')
        if word == 'late':
            await gate(rest)
        task = new_task_from_user_message(message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        if word in ('ask', 'ask-twice'):
            say = updater.new_agent_message([new_text_part('which colour?')])
            return await updater.requires_input(say)
        if word == 'auth':
            return await updater.requires_auth(updater.new_agent_message([new_text_part('log in first')]))
        if word == 'reject':
            return await updater.reject(updater.new_agent_message([new_text_part('not my work')]))
        await updater.start_work(updater.new_agent_message([new_text_part('working on it')]))
        if word == 'fail':
            return await updater.failed(updater.new_agent_message([new_text_part('no such file')]))
        if word == 'slow':
            await gate(rest)
        if word == 'files':
            await updater.add_artifact([new_text_part('a chart')], name='summary')
            await updater.add_artifact([new_url_part('https://files.example/chart.png', media_type='image/png')])
            return await updater.complete()
        if word == 'big':
            await updater.add_artifact([new_text_part('x' * int(rest))])
            return await updater.complete()
        data = get_data_parts(message.parts)
        parts = [new_data_part(value) for value in data] if data else []
        if text:
            parts.insert(0, new_text_part(rest))
        await updater.add_artifact(parts)
        await updater.complete()

    async def go_on(self, context, updater, text):
        first = context.current_task.history[0].parts[0].text
        if text == 'wait':
            await gate('answer')
        # The message that is worked on is not part of the history yet.
        before = [m for m in context.current_task.history if m.role == Role.ROLE_USER]
        if first.startswith('ask-twice') and len(before) < 2:
            say = updater.new_agent_message([new_text_part('are you sure?')])
            return await updater.requires_input(say)
        await updater.add_artifact([new_text_part('you said ' + text)])
        await updater.complete()

    async def cancel(self, context, event_queue):
        cancelled[context.task_id] += 1
        task = context.current_task
        await TaskUpdater(event_queue, task.id, task.context_id).cancel()


class Handler(DefaultRequestHandler):
    async def on_message_send(self, params, context):
        received[params.message.message_id] += 1
        return await super().on_message_send(params, context)


async def control(request):
    body = await request.json()
    if 'release' in body:
        gates[body['release']].set()
    if 'reached' in body:
        await reached[body['reached']].wait()
    broken.update(body.get('break', {}))
    away.update(body.get('away', {}))
    told = {'received': received, 'executed': executed, 'cancelled': cancelled, 'calls': calls}
    return JSONResponse(told)


class Faults:
    """Loses responses after the work was done, or fails before it is begun."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope['type'] != 'http' or scope['path'] != '/rpc':
            return await self.app(scope, receive, send)
        body = b''
        while True:
            message = await receive()
            body += message.get('body', b'')
            if not message.get('more_body'):
                break
        method = json.loads(body)['method']
        calls[method] += 1
        if away[method] > 0:
            away[method] -= 1
            return await PlainTextResponse('away', status_code=503)(scope, receive, send)
        given = False

        async def replay():
            nonlocal given
            if not given:
                given = True
                return {'type': 'http.request', 'body': body, 'more_body': False}
            return await receive()

        if broken[method] > 0:
            broken[method] -= 1

            async def lose(_message):
                pass

            await self.app(scope, replay, lose)
            return await PlainTextResponse('lost', status_code=502)(scope, receive, send)
        await self.app(scope, replay, send)


def main():
    listener = socket.create_server(('127.0.0.1', 0))
    port = listener.getsockname()[1]
    card = AgentCard(
        name='test agent',
        description='does what the first word says',
        version='1.0.0',
        supported_interfaces=[
            AgentInterface(
                url=f'http://127.0.0.1:{port}/rpc', protocol_binding='JSONRPC', protocol_version='1.0'
            )
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=['text'],
        default_output_modes=['text'],
        skills=[AgentSkill(id='all', name='all', description='all', tags=['test'])],
    )
    handler = Handler(agent_executor=Agent(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, '/rpc'),
        Route('/control', control, methods=['POST']),
    ]
    server = uvicorn.Server(uvicorn.Config(Faults(Starlette(routes=routes)), log_level='warning'))
    print(port, flush=True)
    asyncio.run(server.serve(sockets=[listener]))


if __name__ == '__main__':
    sys.exit(main())
