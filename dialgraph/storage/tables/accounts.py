"""The tables of users, their sessions and their keys."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, MetaData, String, Table

METADATA = MetaData()

USER = Table(
    "account",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("name_key", String(192), nullable=False, unique=True),
    Column("password", String(128), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("erased_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
)
SESSION = Table(  # a session that has ended has no row
    "account_session",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("account.id"), nullable=False, index=True),
    Column("refresh", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
KEY = Table(
    "account_key",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("account.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("ending", String(4), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("token_budget", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Index("account_key_name", "user_id", "name", unique=True),
)
