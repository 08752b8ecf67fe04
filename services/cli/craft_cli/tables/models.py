"""The table of deployed adapters."""

from collections.abc import Sequence

from craft.contracts.openai.chat import ServedModel
from craft_cli.tables.cells import text_table
from craft_cli.tables.plain import PlainTable


def models(views: Sequence[ServedModel]) -> PlainTable:
    """One row for each deployed adapter."""
    return text_table(("id", "base model"), ((v.id, v.parent) for v in views))
