"""Adds the routes of `llm-backend-api` to the application."""

from fastapi import FastAPI
from starlette.routing import Route

from server.protocols.backend_api import conversations, rag, users
from server.protocols.backend_api.chat import Chat
from server.protocols.backend_api.rag import KnowledgeChat
from server.state import ServerState


def mount(app: FastAPI, state: ServerState) -> None:
    """Add all routes under `/api`."""
    for router in (users.router, conversations.router, rag.router, rag.uploads):
        app.include_router(router)
    streams = {"/api/chat/{conversation_id}": Chat(state), "/api/rag/chat": KnowledgeChat(state)}
    for path, chat in streams.items():
        app.router.routes += [Route(path + slash, chat, methods=["POST"]) for slash in ("", "/")]
