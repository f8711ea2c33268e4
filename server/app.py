"""The application: settings → ASGI app. Mistakes in settings and graphs are found here, before the first call."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from dialgraph.environment import REAL, Environment
from dialgraph.graph.errors import GraphError
from dialgraph.profiles.choose import known_profiles
from dialgraph.shadowing import refuse_shadowed_packages
from server.api import about, conversations, feedback, knowledge_bases, metrics, usage, users
from server.endpoints import RESPONSES, SUFFIX, Endpoint, open_names
from server.errors import FORESEEN, ApiError, api_error
from server.http.refusals import Refusals
from server.http.tidy_paths import TidyPaths
from server.metrics.loop_delay import measure_loop_delay
from server.metrics.table import LOOP_DELAY
from server.openapi import describe
from server.periodic import every
from server.protocols.backend_api.mount import mount
from server.protocols.backend_api.router import error_reply
from server.protocols.chat_completions.messages import Messages
from server.protocols.chat_completions.routes import Completions
from server.protocols.responses.routes import Responses
from server.settings import Settings, ensure_data_dir
from server.state import ServerState, open_state
from server.turns.ledger import WRITE_SECONDS
from server.turns.turn_recorder import NOTE_SECONDS
from server.users.user_data import GONE_SECONDS

log = logging.getLogger(__name__)

VERSION = "0.1.0"
EXPIRE_SECONDS = 600.0
"""Between two deletions of files that failed more than a day ago."""
WATCH_SECONDS = 10.0
"""Between two checks of the size of the database's journal."""


def create_app(settings: Settings, environment: Environment = REAL) -> FastAPI:
    """Return the application.

    Raises SettingsError, GraphError or ShadowedPackageError, with one line for each mistake.
    """
    refuse_shadowed_packages()
    state = open_state(settings, environment)
    authenticator, endpoints = state.authenticator, state.endpoints
    if authenticator.mode == "passthrough":
        _refuse_open_doors(settings, endpoints)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        prepare(state)
        await state.services.prewarm()
        await state.accounts.prewarm()
        going_on = [
            asyncio.create_task(state.stores.ingestion.run()),
            asyncio.create_task(_end_deletions(state)),
            asyncio.create_task(measure_loop_delay(state.metrics.of(LOOP_DELAY).observe, environment)),
        ]
        stop = asyncio.Event()
        working = [
            asyncio.create_task(every(NOTE_SECONDS, state.recorder.note, stop)),
            asyncio.create_task(every(WRITE_SECONDS, state.ledger.write, stop)),
            asyncio.create_task(every(EXPIRE_SECONDS, state.knowledge.expire, stop)),
            asyncio.create_task(every(GONE_SECONDS, state.people.end_turns_of_the_gone, stop)),
            asyncio.create_task(every(WATCH_SECONDS, state.services.database.watch_journal, stop)),
        ]
        state.ready = True
        yield
        await state.runs.aclose()
        stop.set()
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, *working, return_exceptions=True)
        await state.aclose()

    app = FastAPI(
        title="Dialgraph",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would be sent before authentication, to a host that the client names
    )
    app.state.dialgraph = state
    app.router.routes += completion_routes(state)
    app.include_router(about.public)
    app.include_router(about.private)
    app.include_router(metrics.router)
    mount(app, state)
    for router in (
        users.router,
        conversations.router,
        knowledge_bases.router,
        knowledge_bases.uploads,
        usage.router,
        feedback.router,
    ):
        app.include_router(router)
    path = "/v1/conversations/{conversation_id}/messages"
    app.router.routes.append(Route(path, Messages(state), methods=["POST"]))
    describe(app)
    for kind in FORESEEN:
        app.add_exception_handler(kind, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(ClientDisconnect, _on_left)
    app.add_exception_handler(Exception, _on_api_error)
    app.add_middleware(Refusals, count=state.metrics.refused, environment=environment)
    app.add_middleware(TidyPaths)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],  # OpenAI's client sends a dozen of its own
        )
    return app


def prepare(state: ServerState) -> None:
    """Open everything that the graphs name, so that a missing model, store or voice is found before the first call."""
    ensure_data_dir(state.settings)
    open_names(state.endpoints, state.services)
    known_profiles()  # imports a file for each host, which the first caller must not wait for


def completion_routes(state: ServerState) -> list[Route]:
    """Return a route for every path of every endpoint. If two endpoints have the same path, the first one gets it.

    Raises GraphError if an endpoint's own path is taken by another endpoint.
    """
    routes: dict[str, Route] = {}
    first = next(iter(state.endpoints.values()))
    default = state.endpoints.get("chat", first)
    for path in (f"/v1{SUFFIX}", f"/v1{SUFFIX}/", f"/v1{SUFFIX}{SUFFIX}"):
        routes[path] = Route(path, Completions(state, default, picks=True), methods=["POST"])
    for endpoint in state.endpoints.values():
        for path in endpoint.paths():
            if path not in routes:
                routes[path] = Route(path, Completions(state, endpoint), methods=["POST"])
            elif path == endpoint.spec.route_path:
                raise GraphError(
                    f"graph {endpoint.spec.name!r}: the path {path!r} is already used by another endpoint."
                )
    for path in (f"/v1{RESPONSES}", RESPONSES):
        routes.setdefault(path, Route(path, Responses(state, default, picks=True), methods=["POST"]))
    for endpoint in state.endpoints.values():
        for path in endpoint.responses_paths():
            routes.setdefault(path, Route(path, Responses(state, endpoint), methods=["POST"]))
    return list(routes.values())


async def _end_deletions(state: ServerState) -> None:
    """Finish the deletions that a killed server had begun."""
    try:
        await state.knowledge.go_on()
        await state.people.go_on()
    except Exception:
        # An error must not stop the server: the next start continues with the deletions.
        log.exception("an unfinished deletion failed; the next start will try again")


def _refuse_open_doors(settings: Settings, endpoints: dict[str, Endpoint]) -> None:
    """Refuse graphs that use the server's own data or keys in the mode `passthrough`, which lets everybody in."""
    addresses = settings.model_addresses()
    for endpoint in endpoints.values():
        for step, kind, name in endpoint.graph.uses:
            spends_key = kind == "model" and name in addresses and bool(addresses[name].api_key)
            what = {
                "store": f"reads the store {name!r}",
                "toolbox": f"runs the tools of {name!r}",
                "tools": f"runs {name}",
                "model": f"uses the server's key of the model {name!r}" if spends_key else "",
            }
            if what.get(kind) and not endpoint.spec.public:
                raise GraphError(
                    f"graph {endpoint.spec.name!r}, step {step!r}: {what[kind]}, but auth 'passthrough' lets everybody"
                    " in. Mark the graph public=True, leave it out of DIALGRAPH_ENDPOINTS, or use DIALGRAPH_AUTH=keys."
                )


async def _on_api_error(request: Request, error: Exception) -> Response:
    told = api_error(error)
    if request.url.path.startswith("/api/"):
        return error_reply(request, told)
    headers = {"cache-control": "no-store", **told.headers}
    return Response(told.body(), told.status, headers, media_type="application/json")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, ApiError):  # FastAPI wraps errors that are raised while it reads a body
        return await _on_api_error(request, error.__cause__)
    status = getattr(error, "status_code", 500)
    messages: dict[int, tuple[str, str]] = {
        404: (f"Nothing found at {request.url.path!r}. `GET /` lists the endpoints.", "not_found"),
        405: (f"The method {request.method} is not allowed at {request.url.path!r}.", "method_not_allowed"),
    }
    message, code = messages.get(status, ("The request is not valid.", "invalid_request"))
    told = ApiError(status, message, code=code, headers=getattr(error, "headers", None) or {})
    return await _on_api_error(request, told)


async def _on_left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client has left and does not read it


async def _on_invalid(request: Request, error: Exception) -> Response:
    mistakes = error.errors() if isinstance(error, RequestValidationError) else ()
    where = [str(part) for part in mistakes[0]["loc"][1:]] if mistakes else []
    told = f"`{'.'.join(where)}`: {mistakes[0]['msg']}." if where else "The request is not valid."
    param = ".".join(where)[:128] or None
    return await _on_api_error(request, ApiError(400, told[:512], param=param, code="invalid_value"))
