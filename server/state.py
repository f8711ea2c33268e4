"""What the routes share: one value, made once by `create_app`."""

from dataclasses import dataclass, field

from graphs.services import OpenServices
from server.auth import Authenticator
from server.endpoints import Endpoint
from server.settings import Settings
from server.turns import Turns


@dataclass
class ServerState:
    """Everything that lives as long as the server."""

    settings: Settings
    services: OpenServices
    endpoints: dict[str, Endpoint]
    authenticator: Authenticator
    turns: Turns = field(default_factory=Turns)
    draining: bool = False
    """Whether the server is stopping: running turns go on, new ones are refused."""
    ready: bool = False
    """Whether everything is open and warm."""
