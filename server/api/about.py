"""`GET /`, `/v1/models`, `/health`, `/ready`, `/ping`: what the server serves, and whether it works."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from server.errors import ApiError
from server.http.asgi_io import headers_of
from server.state import ServerState

STARTED = 1_767_225_600
"""`created` of every graph: model lists need a date, and a graph has none."""


async def state_of(request: Request) -> ServerState:
    """Return the state that `create_app` created."""
    state: ServerState = request.app.state.dialgraph
    return state


State = Annotated[ServerState, Depends(state_of)]


async def authenticated(request: Request, state: State) -> None:
    """Check that the request may use the endpoints. Raises ApiError 401 and 403."""
    await state.authenticator.authenticate(request.scope, headers_of(request.scope))


public = APIRouter(tags=["health"])
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token or key is missing, invalid or expired."},
    403: {"description": "The token or key lacks the required scope."},
    404: {"description": "Unknown graph."},
}
private = APIRouter(tags=["endpoints"], dependencies=[Depends(authenticated)], responses=_REFUSALS)


@public.head("/health", include_in_schema=False)
@public.get("/health", summary="Check that the process is alive.")
async def health() -> dict[str, str]:
    """Always returns `ok`. If it fails, a supervisor should restart the process."""
    return {"status": "ok"}


@public.head("/ready", include_in_schema=False)
@public.get("/ready", summary="Check that the server can take calls.", responses={503: {"description": "Not ready."}})
async def ready(state: State) -> JSONResponse:
    """Return 200 if a load balancer may send calls, otherwise 503.

    The report also shows models, stores, voices and a cache that are not available; they do not change the status.
    """
    if state.draining or not state.ready:
        return JSONResponse({"status": "stopping" if state.draining else "starting"}, 503)
    report = await state.readiness.report()
    return JSONResponse(report, 200 if report["status"] == "ok" else 503)


@public.head("/ping", include_in_schema=False)
@public.get("/ping", summary="Answer `pong`, as Agora's samples do.")
async def ping() -> dict[str, str]:
    """Return a fixed reply, to test the connection."""
    return {"message": "pong"}


@private.head("/", include_in_schema=False)
@private.get("/", summary="List the endpoints.")
async def index(state: State) -> dict[str, Any]:
    """Return each endpoint with its name, path and summary."""
    return {
        "message": "Dialgraph: set one of these endpoints as the custom LLM of your voice agent.",
        "endpoints": [
            {
                "name": name,
                "path": endpoint.spec.route_path,
                "summary": endpoint.spec.summary,
            }
            for name, endpoint in state.endpoints.items()
        ],
    }


@private.get("/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI description of every route."""
    return JSONResponse(request.app.openapi())


@private.get("/models", include_in_schema=False)
@private.get("/v1/models", summary="List the graphs, in the form of OpenAI's models.")
async def models(state: State) -> dict[str, Any]:
    """Return every graph as a model. LiveKit calls this to open its connection; other clients show the list."""
    return {"object": "list", "data": [_model(name) for name in state.endpoints]}


@private.get("/v1/models/{graph}", summary="Get one graph, in the form of OpenAI's models.")
async def model(state: State, graph: str) -> dict[str, Any]:
    """Return one graph as a model. Some clients check it before they send a request."""
    return _model(_known(state, graph))


@private.get("/{graph}/models", include_in_schema=False)
@private.get("/{graph}/v1/models", include_in_schema=False)
async def models_beside(state: State, graph: str) -> dict[str, Any]:
    """Return the same list to clients whose base address is one endpoint."""
    _known(state, graph)
    return await models(state)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "dialgraph"}


def _known(state: ServerState, graph: str) -> str:
    if graph not in state.endpoints:
        raise ApiError(404, f"Unknown graph {graph!r}. `GET /` lists the endpoints.", code="not_found")
    return graph
