"""What these routes share: paths with and without a last slash, languages, and the form of errors."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from server.api.fields import ERRORS
from server.errors import ApiError
from server.protocols.backend_api.texts import Language, language_of, told

PREFIX = "/api"


class Refusal(BaseModel):
    """The error's message, in the language that the client accepts."""

    error: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": about["description"]} for status, about in ERRORS.items()
}
"""The errors in the OpenAPI description of every route."""
Function = TypeVar("Function", bound=Callable[..., Any])


def route(router: APIRouter, method: str, path: str, **about: Any) -> Callable[[Function], Function]:
    """Return a decorator that adds a route with and without a slash at its end."""

    def declare(function: Function) -> Function:
        router.add_api_route(path, function, methods=[method], **about)
        router.add_api_route(f"{path}/", function, methods=[method], include_in_schema=False, **about)
        return function

    return declare


def error_reply(request: Request, error: ApiError) -> Response:
    """Return the error in this API's form: one text, in the language that the client accepts."""
    language = language_of(request.headers.get("accept-language"), usual_language(request.url.path))
    body = orjson.dumps({"error": told(error, language)})
    headers = {"cache-control": "no-store", **error.headers}
    return Response(body, error.status, headers, media_type="application/json")


def usual_language(path: str) -> Language:
    """Return the language in which the documentation of `llm-backend-api` shows the messages of this path."""
    return "zh" if path.startswith(f"{PREFIX}/rag") else "en"


async def _language(request: Request) -> Language:
    return language_of(request.headers.get("accept-language"), usual_language(request.url.path))


InLanguage = Annotated[Language, Depends(_language)]
