"""Add what a turn cost, and the model that answered it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns. Old rows have none of these values; an older server leaves them out."""
    op.add_column("usage_turn", sa.Column("answered_by", sa.String(256)))
    op.add_column("usage_turn", sa.Column("cost_usd", sa.Float))
    op.add_column("usage_turn", sa.Column("list_cost_usd", sa.Float))
