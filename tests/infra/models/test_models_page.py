"""The page about models says what the table of architectures says."""

from pathlib import Path

from craft.infra.models.architectures import REFUSED, TABLE

PAGE = Path(__file__).parents[3] / "shared" / "docs" / "models.md"
HEADER = "| architecture | for example | embedded engine | training | an adapter changes | vLLM | notes |"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def test_the_page_has_the_table_row_by_row() -> None:
    rows = [
        row(f"`{each.name}`", each.models, each.engine.value, each.training.value, each.adapts, each.vllm, each.note)
        for each in TABLE
    ]
    table = "\n".join([HEADER, "| --- | --- | --- | --- | --- | --- | --- |", *rows])
    assert table in PAGE.read_text(), f"Put this table into {PAGE.name}:\n{table}"


def test_the_page_names_every_refused_architecture() -> None:
    text = PAGE.read_text()
    assert [name for name in REFUSED if f"`{name}`" not in text] == []
