"""`GET /`, `/v1/models`, `/health`, `/ready`, `/ping`: what is served here, and whether it works."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from server.errors import ApiError
from server.http.asgi_io import headers_of
from server.state import ServerState

STARTED = 1_767_225_600
"""`created` of a graph: model lists need a date, and a graph has none that matters."""


async def state_of(request: Request) -> ServerState:
    """The one value that `create_app` made."""
    state: ServerState = request.app.state.dialgraph
    return state


State = Annotated[ServerState, Depends(state_of)]


async def authenticated(request: Request, state: State) -> None:
    """Let in whoever may ask."""
    await state.authenticator.authenticate(request.scope, headers_of(request.scope))


public = APIRouter(tags=["health"])
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is known by this key."},
    403: {"description": "The key does not open this."},
    404: {"description": "There is no such graph."},
}
private = APIRouter(tags=["endpoints"], dependencies=[Depends(authenticated)], responses=_REFUSALS)


@public.head("/health", include_in_schema=False)
@public.get("/health", summary="Whether the process lives.")
async def health() -> dict[str, str]:
    """For a supervisor: restart when this fails."""
    return {"status": "ok"}


@public.head("/ready", include_in_schema=False)
@public.get("/ready", summary="Whether calls can come.", responses={503: {"description": "Not now."}})
async def ready(state: State) -> JSONResponse:
    """For a load balancer: send no calls when this is not 200. A model, voice or cache that is away is shown only."""
    if state.draining or not state.ready:
        return JSONResponse({"status": "stopping" if state.draining else "starting"}, 503)
    report = await state.readiness.report()
    return JSONResponse(report, 200 if report["status"] == "ok" else 503)


@public.head("/ping", include_in_schema=False)
@public.get("/ping", summary="As Agora's samples answer it.")
async def ping() -> dict[str, str]:
    """For whoever just wants to see that something is there."""
    return {"message": "pong"}


@private.head("/", include_in_schema=False)
@private.get("/", summary="The endpoints.")
async def index(state: State) -> dict[str, Any]:
    """Each with the paths that reach it."""
    return {
        "message": "Dialgraph: point a voice agent's custom LLM at one of these endpoints.",
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
    """The description of every route."""
    return JSONResponse(request.app.openapi())


@private.get("/models", include_in_schema=False)
@private.get("/v1/models", summary="The graphs, as OpenAI lists models.")
async def models(state: State) -> dict[str, Any]:
    """LiveKit fetches it to warm its connection, pickers to offer a choice."""
    return {"object": "list", "data": [_model(name) for name in state.endpoints]}


@private.get("/v1/models/{graph}", summary="One graph, as OpenAI describes a model.")
async def model(state: State, graph: str) -> dict[str, Any]:
    """Some clients look before they ask."""
    return _model(_known(state, graph))


@private.get("/{graph}/models", include_in_schema=False)
@private.get("/{graph}/v1/models", include_in_schema=False)
async def models_beside(state: State, graph: str) -> dict[str, Any]:
    """The same for clients whose base address is one endpoint's."""
    _known(state, graph)
    return await models(state)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "dialgraph"}


def _known(state: ServerState, graph: str) -> str:
    if graph not in state.endpoints:
        raise ApiError(404, f"There is no graph {graph!r}. `GET /` lists the endpoints.", code="not_found")
    return graph
