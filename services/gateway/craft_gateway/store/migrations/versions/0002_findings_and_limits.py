"""Columns that came after the first schema: what was found in data, limits of teams, kinds of artifacts."""

revision = "20261130_2"
down_revision = "20261130_1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""


def downgrade() -> None:
    """Drop the columns."""
