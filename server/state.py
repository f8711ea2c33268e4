"""What the routes share: one value, made once by `create_app`."""

from dataclasses import dataclass, field
from typing import Protocol

from graphs.services import OpenServices
from server.auth import Authenticator
from server.endpoints import Endpoint
from server.settings import Settings


class OpenTurn(Protocol):
    """A turn that is being told to a client."""

    def stop(self) -> None:
        """End it; its client is told that the server stops."""


@dataclass
class ServerState:
    """Everything that lives as long as the server."""

    settings: Settings
    services: OpenServices
    endpoints: dict[str, Endpoint]
    authenticator: Authenticator
    open_turns: set[OpenTurn] = field(default_factory=set)
    draining: bool = False
    """Whether the server is stopping: running turns go on, new ones are refused."""
    ready: bool = False
    """Whether everything is open and warm."""

    def stop_turns(self) -> None:
        """The grace period is over."""
        for turn in list(self.open_turns):
            turn.stop()
