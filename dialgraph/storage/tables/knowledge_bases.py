"""Users' knowledge bases: each is a store of `dialgraph.storage.tables.knowledge` that belongs to one user."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table

from dialgraph.storage.tables.accounts import METADATA

KNOWLEDGE_BASE = Table(
    "knowledge_base",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("account.id"), nullable=False),
    Column("name", String(256), nullable=False),
    Column("embedder", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Index("knowledge_base_by_user", "user_id", "created_at", "id"),
)
