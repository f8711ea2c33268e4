"""What the routes share: one value, made once by `create_app`."""

from collections import Counter
from dataclasses import dataclass, field

from accounts.accounts import Accounts
from accounts.secrets import SecretError, open_sealed, open_tokens
from cache.port import Cache, open_cache
from conversations.conversations import Conversations
from conversations.copies import Copies
from conversations.turns import ConversationTurns
from graphs.services import OpenServices
from graphs.settings import langgraph_file
from knowledge.bases import Bases
from models.vetted import VettedUpstreams
from server.auth import Authenticator
from server.endpoints import Endpoint, load_endpoints
from server.knowledge import UserKnowledge
from server.ledger import Ledger
from server.limiter import Limiter
from server.people import People
from server.record import Keeper
from server.settings import Settings, SettingsError, ensure_data_dir
from server.turns import Turns


@dataclass
class ServerState:
    """Everything that lives as long as the server."""

    settings: Settings
    services: OpenServices
    endpoints: dict[str, Endpoint]
    authenticator: Authenticator
    accounts: Accounts
    conversations: Conversations
    conversation_turns: ConversationTurns
    keeper: Keeper
    upstreams: VettedUpstreams
    bases: Bases
    knowledge: UserKnowledge
    people: People
    cache: Cache
    limiter: Limiter
    ledger: Ledger
    turns: Turns
    draining: bool = False
    """Whether the server is stopping: running turns go on, new ones are refused."""
    uploading: Counter[str] = field(default_factory=Counter)
    """Files of each user that are being received."""
    ready: bool = False
    """Whether everything is open and warm."""


def open_state(settings: Settings) -> ServerState:
    """Open what the settings name, as far as that needs no event loop. Raises SettingsError and GraphError."""
    try:
        ensure_data_dir(settings)
        tokens = open_tokens(settings.token_secret.get_secret_value(), settings.data_dir)
        sealed = open_sealed(settings.encryption_keys.get_secret_value(), settings.data_dir)
    except SecretError as error:
        raise SettingsError(str(error)) from None
    services = OpenServices(settings)
    try:
        cache = open_cache(settings.redis_url.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"Setting {error}") from None
    accounts = Accounts(services.database, tokens, sealed, cache)
    copies = Copies(cache, sealed)
    turns = ConversationTurns(services.database, copies)
    ledger = Ledger(services.database, settings.user_token_budget)
    open_turns = Turns()
    bases = Bases(services.database)
    conversations = Conversations(services.database, sealed, copies)
    knowledge = UserKnowledge(services, bases)
    return ServerState(
        settings,
        services,
        load_endpoints(langgraph_file(), settings.endpoints),
        Authenticator(settings, accounts),
        accounts,
        conversations,
        turns,
        Keeper(turns),
        VettedUpstreams(settings.private_hosts),
        bases,
        knowledge,
        People(accounts, conversations, bases, knowledge, open_turns, ledger),
        cache,
        Limiter(settings, cache),
        ledger,
        open_turns,
    )
