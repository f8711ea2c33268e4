"""`GET /metrics`: the metrics of this process, for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from server.api.about import State
from server.errors import ApiError
from server.http.asgi_io import headers_of
from server.metrics import table

router = APIRouter(
    tags=["operation"],
    responses={
        401: {"description": "The token or key is missing, invalid or expired."},
        403: {"description": "The key is not an operator's."},
    },
)


async def operator(request: Request, state: State) -> None:
    """Check that the request has the access token or an operator's key. Raises ApiError 401 and 403."""
    requester = await state.authenticator.authenticate(request.scope, headers_of(request.scope))
    if requester.identity is not None or requester.upstream_key:
        raise ApiError(
            403, "Only an operator may do this: send the access token, or a key from `dialgraph key create`.",
            "authentication_error", "operator_only",
        )  # fmt: skip


@router.get("/metrics", summary="Get the metrics, in Prometheus's text format.", response_class=Response)
async def metrics(request: Request, state: State) -> Response:
    """Return all metrics of this process. The request needs the access token or an operator's key."""
    await operator(request, state)
    state.reports.hand_over()
    found = state.metrics
    found.of(table.IN_FLIGHT).set(len(state.runs.open))
    for name, health in state.services.model_health().items():
        found.of(table.BREAKER, name).set(health == "down")
    for job, count in (await state.stores.ingestion.jobs.counts()).items():
        found.of(table.JOBS, job).set(count)
    found.count_up_to(table.DROPPED, state.records.dropped)
    return Response(found.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"cache-control": "no-store"})
