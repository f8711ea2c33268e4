"""The state that all routes share: one value, created once by `create_app`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dialgraph.environment import REAL, Environment, in_thread
from dialgraph.models.relay.user_upstreams import UserUpstreams
from dialgraph.project import in_project, langgraph_file
from dialgraph.records.records import Records
from dialgraph.services.services import OpenServices
from dialgraph.storage.cache import Cache
from dialgraph.users.accounts.accounts import Accounts
from dialgraph.users.accounts.secrets import SecretError
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.turns import ConversationTurns
from knowledge.knowledge_bases import KnowledgeBases
from knowledge.open_stores import OpenStores
from server.access.auth import Authenticator
from server.access.limiter import Limiter
from server.endpoints import Endpoint, load_endpoints
from server.http.body_room import BodyRoom
from server.logs import use_redactor
from server.metrics.metrics import Metrics
from server.readiness import Readiness
from server.settings import Settings, SettingsError
from server.turns.ledger import Ledger
from server.turns.prices import read_prices
from server.turns.report import ReportSink
from server.turns.reports import Reports
from server.turns.runs import Runs
from server.turns.turn_recorder import TurnRecorder
from server.users.user_data import UserData
from server.users.user_knowledge import UserKnowledge
from server.users.user_stores import open_user_stores

if TYPE_CHECKING:
    from server.traces.otel import OtelSink


@dataclass
class ServerState:
    """Everything that lives as long as the server."""

    settings: Settings
    services: OpenServices
    stores: OpenStores
    endpoints: dict[str, Endpoint]
    authenticator: Authenticator
    accounts: Accounts
    conversations: Conversations
    conversation_turns: ConversationTurns
    recorder: TurnRecorder
    upstreams: UserUpstreams
    bases: KnowledgeBases
    knowledge: UserKnowledge
    people: UserData
    cache: Cache
    limiter: Limiter
    ledger: Ledger
    runs: Runs
    reports: Reports
    metrics: Metrics
    records: Records
    otel: "OtelSink | None"
    readiness: Readiness
    body_room: BodyRoom
    environment: Environment
    """The clock, ids, chance and threads of every run."""
    draining: bool = False
    """Whether the server is stopping: running turns continue, new ones are refused."""
    uploading: Counter[str] = field(default_factory=Counter)
    """How many files of each user are being received."""
    ready: bool = False
    """Whether everything is open and warmed up, so that the server can take calls."""

    async def aclose(self) -> None:
        """Close everything that is open."""
        await self.upstreams.aclose()
        await self.accounts.aclose()
        await self.cache.aclose()
        await self.services.aclose()
        self.reports.hand_over()
        await in_thread(self.records.close)
        if self.otel is not None:
            await in_thread(self.otel.close)


def open_otel(
    settings: Settings, endpoints: dict[str, Endpoint], environment: Environment, records: Records
) -> "OtelSink":
    """Return the sink for OpenTelemetry. Raises SettingsError if its packages are missing."""
    try:
        from server.traces.otel import OtelSink
    except ImportError:
        raise SettingsError("Setting 'otel_url' needs the extra `otel`: pip install -e '.[otel]'.") from None
    return OtelSink(settings, endpoints, environment, records.redactor)


def open_state(settings: Settings, environment: Environment = REAL) -> ServerState:
    """Open what the settings name, as far as possible without an event loop. Raises SettingsError and GraphError."""
    services = OpenServices(settings)
    stores = OpenStores.of(services)
    kept = open_user_stores(settings, services.database)
    turns = ConversationTurns(services.database, kept.copies)
    ledger = Ledger(services.database, settings.user_token_budget)
    metrics, records = Metrics(), Records(settings)
    try:
        use_redactor(records.redactor)
    except SecretError as error:
        raise SettingsError(str(error)) from None
    prices = read_prices(in_project(settings.prices) if settings.prices else None, settings.model_addresses())
    endpoints = load_endpoints(langgraph_file(), settings.endpoints)
    otel = open_otel(settings, endpoints, environment, records) if settings.otel_url else None
    sinks: list[ReportSink] = [metrics, *([otel] if otel else [])]
    reports = Reports(sinks)
    runs = Runs(
        services, ledger, prices, environment, records, reports,
        logs_prompts=settings.log_prompts, keeps_words=settings.otel_content,
    )  # fmt: skip
    bases = KnowledgeBases(services.database)
    knowledge = UserKnowledge(stores, bases, settings.user_storage)
    return ServerState(
        settings,
        services,
        stores,
        endpoints,
        Authenticator(settings, kept.accounts),
        kept.accounts,
        kept.conversations,
        turns,
        TurnRecorder(turns),
        UserUpstreams(settings.private_hosts),
        bases,
        knowledge,
        UserData(kept.accounts, kept.conversations, bases, knowledge, runs, ledger),
        kept.cache,
        Limiter(settings, kept.cache),
        ledger,
        runs,
        reports,
        metrics,
        records,
        otel,
        Readiness(services, kept.cache),
        BodyRoom(settings.bodies, settings.body_limit),
        environment,
    )
