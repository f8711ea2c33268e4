"""The tables of usage: one row per turn, and one row per budget and month with the tokens charged."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table

from dialgraph.storage.tables.accounts import METADATA

USAGE = Table(
    "usage_turn",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36)),
    Column("principal", String(64), nullable=False),
    Column("key_id", String(36)),
    Column("endpoint", String(64), nullable=False),
    Column("call_id", String(1024), nullable=False),
    Column("turn_id", String(1024), nullable=False),
    Column("model", String(256), nullable=False),
    Column("passes", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("first_word_ms", Integer, nullable=False),
    Column("total_ms", Integer, nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("answered_by", String(256)),
    Column("cost_usd", Float),
    Column("list_cost_usd", Float),
    Index("usage_turn_by_user", "user_id", "created_at", "id"),
    Index("usage_turn_by_time", "created_at"),
)
BUDGET = Table(
    "usage_budget",
    METADATA,
    Column("payer", String(64), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)
