"""A WebSocket protocol for tests: text in, words out. It shows what a transport other than HTTP needs."""

import asyncio

from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from dialgraph.run.channel import Subscription
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Failed, Fallback, Filler, Say
from dialgraph.turn.node import TurnRequest
from server.access.auth import Requester
from server.api.admit import admitted
from server.errors import ApiError, api_error
from server.http.asgi_io import headers_of
from server.state import ServerState


async def talk(socket: WebSocket) -> None:
    """Answer each text as one turn. A text that arrives during an answer interrupts it."""
    state: ServerState = socket.app.state.dialgraph
    try:
        who = await state.authenticator.authenticate(socket.scope, headers_of(socket.scope))
    except ApiError as error:
        await socket.send_denial_response(Response(error.body(), error.status))
        return
    await socket.accept()
    heard: list[Subscription] = []
    async with asyncio.TaskGroup() as answers:
        async for text in socket.iter_text():
            for earlier in heard:
                earlier.close()
            answers.create_task(answer(socket, state, who, text, heard))
        for earlier in heard:
            earlier.close()


async def answer(socket: WebSocket, state: ServerState, who: Requester, text: str, heard: list[Subscription]) -> None:
    """Send the answer of one turn: a message for each piece of text, then an empty one."""
    call = CallInfo(id=socket.query_params.get("call", ""), principal=who.principal)
    asked = TurnRequest([{"role": "user", "content": text}], call=call, endpoint="chat")
    async with admitted(state, who.identity, asked.messages, {}) as admission:
        run = state.runs.start_or_join(state.endpoints["chat"], asked, admission)
        heard.append(subscription := run.subscribe())
        async for events in subscription:
            for event in events:
                if isinstance(event, Say | Filler | Fallback):
                    await socket.send_text(event.text)
                elif isinstance(event, Failed):
                    await socket.send_text(api_error(event.error).message)
        if not subscription.closed:
            await socket.send_text("")
        subscription.close()
        await run.left()


ROUTE = WebSocketRoute("/words", talk)
