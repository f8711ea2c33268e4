"""Creates the call memory: what is stored of a call between its turns."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "call_memory",
        sa.Column("principal", sa.String(64), primary_key=True),
        sa.Column("endpoint", sa.String(64), primary_key=True),
        sa.Column("call_id", sa.String(1024), primary_key=True),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("slots", sa.JSON, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    )
