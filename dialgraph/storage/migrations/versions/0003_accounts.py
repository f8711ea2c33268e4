"""Creates users with their sessions and keys, conversations with their turns, users' knowledge bases, and usage."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables, and add the column `fault` to the jobs."""
    op.create_table(
        "account",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(192), nullable=False, unique=True),
        sa.Column("password", sa.String(128), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("erased_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "account_session",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("account.id"), nullable=False, index=True),
        sa.Column("refresh", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "account_key",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("ending", sa.String(4), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("token_budget", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    op.create_index("account_key_name", "account_key", ["user_id", "name"], unique=True)
    op.create_table(
        "conversation",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False, unique=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("title", sa.String(256), nullable=False),
        sa.Column("graph", sa.String(64), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("instructions", sa.Text, nullable=False),
        sa.Column("base_url", sa.String(2048), nullable=False),
        sa.Column("api_key", sa.LargeBinary),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("open_turn", sa.String(36)),
        sa.Column("open_until", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("conversation_by_user", "conversation", ["user_id", "created_at", "id"])
    op.create_table(
        "conversation_turn",
        sa.Column("conversation_id", sa.String(36), sa.ForeignKey("conversation.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("request_key", sa.String(256)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("conversation_id", "request_key"),
    )
    op.create_table(
        "knowledge_base",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("embedder", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.BigInteger),
    )
    op.create_table(
        "usage_turn",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36)),
        sa.Column("principal", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(36)),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(1024), nullable=False),
        sa.Column("turn_id", sa.String(1024), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("passes", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("first_word_ms", sa.Integer, nullable=False),
        sa.Column("total_ms", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("usage_turn_by_user", "usage_turn", ["user_id", "created_at", "id"])
    op.create_index("usage_turn_by_time", "usage_turn", ["created_at"])
    op.create_table(
        "usage_budget",
        sa.Column("payer", sa.String(64), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.add_column("knowledge_job", sa.Column("fault", sa.String(12), nullable=False, server_default=""))
    op.create_index("knowledge_base_by_user", "knowledge_base", ["user_id", "created_at", "id"])
