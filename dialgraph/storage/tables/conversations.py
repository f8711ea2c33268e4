"""The tables of conversations and their turns. Each turn has one row with its question and its answer.

While a turn runs, its conversation names it in `open_turn`, at most until `open_until` (milliseconds since 1970).
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip

from dialgraph.storage.tables.accounts import METADATA

CONVERSATION = Table(
    "conversation",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("user_id", String(36), ForeignKey("account.id"), nullable=False),
    Column("title", String(256), nullable=False),
    Column("graph", String(64), nullable=False),
    Column("model", String(256), nullable=False),
    Column("instructions", Text, nullable=False),
    Column("base_url", String(2048), nullable=False),
    Column("api_key", LargeBinary),
    Column("turns", Integer, nullable=False),
    Column("open_turn", String(36)),
    Column("open_until", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("conversation_by_user", "user_id", "created_at", "id"),
)
TURN = Table(
    "conversation_turn",
    METADATA,
    Column("conversation_id", String(36), ForeignKey("conversation.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("request_key", String(256)),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("conversation_id", "request_key"),
)
