"""`craft datasets …` against a real gateway and a real datasets service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.datasets.sources.source_servers import ROWS, body, hub, source
from tests.services.gateway.rigs.dataset_rig import dataset_rig
from tests.services.gateway.rigs.loopback import served
from typer.testing import CliRunner

from craft_cli.main import app

RUNNER = CliRunner()
UNKNOWN = "dset_01jgywz3x4v5q6r7s8t9vawbxc"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with files, and a gateway whose address is in CRAFT_URL."""
    with (
        pytest.MonkeyPatch.context() as patched,
        source({"/questions.jsonl": body(ROWS), **hub(ROWS[: ROWS.index(b"\n") + 1])}) as files,
        dataset_rig(tmp_path_factory.mktemp("rig")) as both,
        served(both.rig.app) as url,
    ):
        both.hub.url = files.url
        patched.setenv("CRAFT_URL", url)
        yield files.url


def craft(*words: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["datasets", *words])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def added(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    return craft("add", str(path)).strip()


def question(text: str, answer: str) -> str:
    return json.dumps({"question": text, "answers": [answer]})


@pytest.mark.usefixtures("server")
def test_columns_are_mapped_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,completion\nWhich gas do plants take in?,carbon dioxide|CO2\n")
    columns = ["--column", "question=prompt", "--column", "answers=completion"]
    dataset_id = craft("add", str(path), *columns).strip()
    assert "columns: question=prompt, answers=completion" in craft("get", dataset_id)
    shown = craft("preview", dataset_id, "--rows", "1")
    assert "carbon dioxide | CO2" in shown
    assert "user: " in shown
    assert "taught where it knows: carbon dioxide" in shown


def test_a_file_elsewhere_is_fetched_and_its_version_shown(server: str) -> None:
    assert craft("add", "--from-url", f"{server}/questions.jsonl", "--name", "web").startswith("dset_")
    dataset_id = craft("add", "--hub", "team/facts", "--file", "data/train.jsonl").strip()
    assert "from: hf://datasets/team/facts@main/data/train.jsonl (0123456789abcdef" in craft("get", dataset_id)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Say which"),
        (["--hub", "team/facts", "--s3", "s3://bucket/key"], "Say which"),
        (["--hub", "team/facts"], "--hub needs --file"),
        (["--s3", "bucket/key"], "write OWNER/NAME for --hub"),
        (["--s3", "s3://bucket/key", "--revision", "main"], "are for --hub"),
        (["--s3", "s3://bucket/key", "--column", "question"], "NAME=VALUE"),
        (["--s3", "s3://bucket/key", "--column", "choices=A,"], "NAME=VALUE"),
        (["--s3", "s3://bucket/key", "--column", "id=a", "--column", "id=b"], "given twice"),
    ],
)
def test_what_names_no_source_is_a_usage_error(words: list[str], message: str) -> None:
    assert message in craft("add", *words, code=2)


@pytest.mark.usefixtures("server")
def test_choices_need_a_task(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    path.write_text('{"question": "Which?", "choices": ["this", "that"], "answer": "B"}\n')
    hint = craft("add", str(path), code=2)
    assert "Say `--task multiple-choice`" in hint
    assert "`--column choices=A,B,C,D`" in hint
    assert craft("add", str(path), "--task", "multiple-choice").startswith("dset_")


@pytest.mark.usefixtures("server")
def test_what_was_noticed_goes_to_standard_error_and_stays_with_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "noticed.jsonl"
    path.write_text('{"question": "Who wrote Emma?", "answer": "Austen</s>", "context": "A novel."}\n')
    refused = RUNNER.invoke(app, ["datasets", "add", str(path)])
    assert refused.exit_code == 2
    assert "[error] control_tokens: 1 row has control tokens" in refused.stderr
    assert "say `--accept control_tokens` with a dataset" in refused.stderr
    assert craft("add", str(path), "--accept", "nonsense", code=2)
    added = RUNNER.invoke(app, ["datasets", "add", str(path), "--accept", "control_tokens"])
    dataset_id = added.stdout.strip()
    assert dataset_id.startswith("dset_")
    for text in (added.stderr, craft("get", dataset_id)):
        assert "[accepted] control_tokens" in text
        assert "[warning] unread_context: `context` has content in 1 of 1 rows" in text
    found = json.loads(craft("get", dataset_id, "--json"))["findings"]
    assert {finding["code"] for finding in found} == {"control_tokens", "unread_context"}
    listed = next(line for line in craft("ls").splitlines() if dataset_id in line)
    assert " 2 " in listed


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "columns", [["choices=A,B,C"], ["choices=A", "choices=B,C"]], ids=["by commas", "in several options"]
)
def test_options_in_several_columns_are_named(tmp_path: Path, columns: list[str]) -> None:
    path = tmp_path / "options.csv"
    path.write_text("prompt,A,B,C,answer\nWhich is a gas?,neon,iron,gold,1\n")
    words = [word for column in ["question=prompt", *columns] for word in ("--column", column)]
    made = craft("add", str(path), "--task", "multiple-choice", "--answer-base", "1", *words).strip()
    assert "columns: question=prompt, choices=A,B,C" in craft("get", made)
    assert "*neon | iron | gold" in craft("preview", made, "--rows", "1")


@pytest.mark.usefixtures("server")
def test_an_overlap_is_counted_and_shown(tmp_path: Path) -> None:
    train = added(tmp_path / "a.jsonl", question("Who wrote Faust?", "Goethe"), question("Who wrote Emma?", "Austen"))
    test = added(tmp_path / "b.jsonl", question("who wrote FAUST", "Goethe"))
    shown = craft("overlap", train, test)
    assert f"1 of 2 rows ask what {test} asks too (different questions: 1)" in shown
    assert "Who wrote Faust?" in shown
    assert json.loads(craft("overlap", train, test, "--json"))["with"] == test


@pytest.mark.usefixtures("server")
def test_what_is_deleted_is_not_found(tmp_path: Path) -> None:
    dataset_id = added(tmp_path / "c.jsonl", question("Who wrote Ulysses?", "Joyce"))
    assert json.loads(craft("rm", dataset_id, "--json")) == {"id": dataset_id, "deleted": True}
    craft("get", dataset_id, code=4)
    craft("rm", UNKNOWN, code=4)
