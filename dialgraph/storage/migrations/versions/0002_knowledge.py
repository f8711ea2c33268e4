"""Creates stores, documents, passages, their vectors and words, and the jobs that add documents."""

import sqlalchemy as sa
from alembic import op

from dialgraph.storage.tables.knowledge import pgvector_is_there, prepare_search

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables, and the search if it is possible.

    A PostgreSQL without pgvector still serves everything except knowledge. The store creates the search later.
    """
    op.create_table(
        "knowledge_store",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("embedder", sa.String(256), nullable=False),
        sa.Column("words", sa.String(32), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("passages", sa.BigInteger, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "knowledge_document",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("store_id", _ID, sa.ForeignKey("knowledge_store.id"), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("media_type", sa.String(128), nullable=False),
        sa.Column("characters", sa.BigInteger, nullable=False),
        sa.Column("passages", sa.Integer, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_index("knowledge_document_name", "knowledge_document", ["store_id", "name"])
    unseen = sa.text("NOT live")
    op.create_index(
        "knowledge_document_unseen", "knowledge_document", ["store_id"], sqlite_where=unseen, postgresql_where=unseen
    )
    op.create_table(
        "knowledge_passage",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("document_id", _ID, sa.ForeignKey("knowledge_document.id"), nullable=False, index=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("heading", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, index=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "knowledge_compared",
        sa.Column("passage_id", _ID, sa.ForeignKey("knowledge_passage.id"), primary_key=True, autoincrement=False),
        sa.Column("document_id", _ID, nullable=False, index=True),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "knowledge_term",
        sa.Column("store_id", _ID, sa.ForeignKey("knowledge_store.id"), primary_key=True),
        sa.Column("code", sa.BigInteger, primary_key=True),
        sa.Column("term", sa.String(128)),
        sa.Column("passages", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("knowledge_term_text", "knowledge_term", ["store_id", "term"])
    op.create_table(
        "knowledge_job",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("store", sa.String(128), nullable=False),
        sa.Column("document", sa.String(512), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("source", sa.LargeBinary),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("tries", sa.SmallInteger, nullable=False),
        sa.Column("error", sa.String(512), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False),
    )
    if pgvector_is_there(op.get_bind()):
        prepare_search(op.get_bind())
