"""The OpenAPI description: FastAPI describes its own routes, and this file adds those that are pure ASGI."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_KEY = {"bearer": {"type": "http", "scheme": "bearer"}}
_MESSAGE = {"type": "string", "minLength": 1, "maxLength": 100_000}


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` return the description of every route."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_ABOUT)
            schema.setdefault("components", {})["securitySchemes"] = _KEY
            schema["security"] = [{"bearer": []}]
            for path, operations in _STREAMS.items():
                schema["paths"].setdefault(path, {}).update(operations)
            _without_422(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way


def _without_422(schema: dict[str, Any]) -> None:
    """Replace FastAPI's 422 for invalid requests by 400, which this server sends."""
    for path in schema["paths"].values():
        for operation in path.values():
            refused = operation.get("responses", {}).get("422", {})
            if "HTTPValidationError" in str(refused):
                del operation["responses"]["422"]
                operation["responses"].setdefault("400", {"description": "The request is not valid."})
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"].get("schemas", {}).pop(name, None)


def _stream(summary: str, tag: str, body: dict[str, Any], example: dict[str, Any], *parameters: Any) -> dict[str, Any]:
    """Return the description of a POST that answers with a stream."""
    refusals = {status: {"description": meaning} for status, meaning in _REFUSALS.items()}
    return {
        "post": {
            "summary": summary,
            "tags": [tag],
            "operationId": "_".join(summary.lower().replace(".", "").split()),
            "parameters": list(parameters),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body, "example": example}},
            },
            "responses": {
                "200": {
                    "description": "The answer: a stream if `stream` is true, otherwise JSON.",
                    "content": _ANSWERS,
                },
                **refusals,
            },
        }
    }


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_ABOUT = "OpenAI-compatible endpoints compiled from graphs, with users, conversations and knowledge bases."
_ANSWERS: dict[str, Any] = {"text/event-stream": {}, "application/json": {}, "application/x-ndjson": {}}
_REFUSALS = {
    "400": "The request is not valid.",
    "401": "The token or key is missing, invalid or expired.",
    "403": "The token or key lacks the required scope.",
    "404": "The user has nothing with this id.",
    "409": "Another turn of the conversation is running.",
    "413": "The body is too large.",
    "415": "The body has the wrong content type.",
    "422": "The `Idempotency-Key` was already used with another message.",
    "429": "Too many requests. Try again after `Retry-After` seconds.",
    "502": "The model's server failed.",
    "503": "Temporarily unavailable. Try again after `Retry-After` seconds.",
    "504": "The model took too long.",
}
_PATH_ID = {"in": "path", "name": "conversation_id", "required": True, "schema": {"type": "string", "maxLength": 64}}
_REQUEST_KEY = {
    "in": "header", "name": "Idempotency-Key", "required": False, "schema": {"type": "string", "maxLength": 256},
    "description": "A unique text for this turn. A request with the same key does not run the turn twice.",
}  # fmt: skip
_FORM = {
    "in": "query", "name": "stream_format", "required": False,
    "schema": {"type": "string", "enum": ["events", "lines", "openai"]},
}  # fmt: skip
_CONVERSATION = {
    "in": "header", "name": "x-dialgraph-conversation", "required": False, "schema": {"type": "string"},
    "description": "The id of a conversation of the user. The request becomes its next turn.",
}  # fmt: skip
_CHAT = _object(
    ["messages"],
    messages={"type": "array", "minItems": 1, "items": {"type": "object"}},
    model={"type": "string", "maxLength": 256},
    stream={"type": "boolean"},
)
_STREAMS: dict[str, Any] = {
    "/v1/chat/completions": _stream(
        "Let a graph answer.", "endpoints", _CHAT,
        {"model": "rag", "messages": [{"role": "user", "content": "When is breakfast?"}], "stream": True},
        _CONVERSATION, _REQUEST_KEY,
    ),
    "/v1/conversations/{conversation_id}/messages": _stream(
        "Say something, and hear the answer.", "conversations",
        _object(["content"], content=_MESSAGE, stream={"type": "boolean"}), {"content": "Hello", "stream": True},
        _PATH_ID, _REQUEST_KEY,
    ),
    "/api/chat/{conversation_id}": _stream(
        "Say something in a conversation.", "llm-backend-api: conversations", _object(["message"], message=_MESSAGE),
        {"message": "介绍一下RUST"}, _PATH_ID, _FORM, _REQUEST_KEY,
    ),
    "/api/rag/chat": _stream(
        "Ask a knowledge base in a conversation.", "llm-backend-api: knowledge",
        _object(
            ["conversation_id", "kb_id", "message"], conversation_id={"type": "integer"}, kb_id={"type": "string"},
            message=_MESSAGE, top_k={"type": "integer"},
        ),
        {"conversation_id": 329629, "kb_id": "a1b2c3d4-…", "message": "什么是不可抗力条款？", "top_k": 3},
        _FORM, _REQUEST_KEY,
    ),
}  # fmt: skip
