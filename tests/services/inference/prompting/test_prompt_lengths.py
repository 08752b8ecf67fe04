"""A prompt that does not fit stops a stage before any work, and is named as its owner knows it."""

from pathlib import Path

import pytest
from tests.services.inference.conftest import byte_tokenizer
from tests.services.inference.conftest import prompts as prompts_of
from tests.services.inference.test_stages import answering, holding, probing

from craft.contracts.stages.rows import HELD_OUT_FILE, TRAIN_FILE, QuestionRow
from craft.core.prompts import PromptMode
from craft.errors import ContextTooLong
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import write_rows
from craft_inference.fake_engine import FakeEngine
from craft_inference.prompting.chat import Chat
from craft_inference.stages import answer, probe

LONG = QuestionRow(id="q-9f3", question="Who " + "is " * 300 + "it?", answers=["x"], line=758)


def rows(count: int) -> list[QuestionRow]:
    return [QuestionRow(id=f"q{n}", question=f"Is it {n}?", answers=["x"], line=n + 1) for n in range(count)]


def split(folder: Path, *, train: list[QuestionRow], held_out: list[QuestionRow]) -> Path:
    folder.mkdir()
    write_rows(folder / TRAIN_FILE, train)
    write_rows(folder / HELD_OUT_FILE, held_out)
    return folder


def context(folder: Path, inputs: dict[str, Path]) -> LocalContext:
    for name in ("output", "checkpoint"):
        (folder / name).mkdir()
    return LocalContext(folder / "output", folder / "checkpoint", inputs)


def test_a_long_last_row_stops_a_probe_before_its_first_reply(tmp_path: Path) -> None:
    engine = FakeEngine(context_words=250)
    questions = split(tmp_path / "in", train=[*rows(40), LONG], held_out=[])
    with pytest.raises(ContextTooLong, match=r"1 of 41 prompts .* line 758, “Who is is .*” \(id q-9f3\)") as raised:
        probe(probing(), context(tmp_path, {"questions": questions}), engines=holding(engine))
    assert engine.seen == []
    assert raised.value.param == "probe.max_new_tokens"
    [detail] = raised.value.details
    assert (detail.line, detail.field) == (758, "question")
    assert (detail.excerpt or "").startswith("Who is is")


def test_a_long_row_of_an_evaluation_set_stops_the_answers_and_its_set_is_named(tmp_path: Path) -> None:
    engine = FakeEngine(context_words=250)
    inputs = {
        "questions": split(tmp_path / "own", train=[], held_out=rows(5)),
        "questions:nq": split(tmp_path / "nq", train=[], held_out=[*rows(3), LONG]),
    }
    with pytest.raises(ContextTooLong, match=r"line 758.* of the evaluation set nq") as raised:
        answer(answering(PromptMode.REFUSE), context(tmp_path, inputs), engines=holding(engine))
    assert engine.seen == []
    assert raised.value.param == "evaluation_settings.max_new_tokens"


@pytest.mark.parametrize("over", [0, 1])
def test_the_models_tokenizer_decides_to_the_token(over: int) -> None:
    short, long = prompts_of("x?", "y" * 150)
    tokenizer = byte_tokenizer()
    [_, ids] = Chat(tokenizer, end_tokens=[2], context_length=10_000).encode([short, long], new_tokens=1)
    chat = Chat(tokenizer, end_tokens=[2], context_length=len(ids) + 10 - over)
    measured = chat.measure([short, long, short], new_tokens=10)
    found = measured.too_long
    assert measured.needed == len(ids) + 10
    assert [(each.position, each.tokens) for each in found] == ([(1, len(ids))] if over else [])


def test_prompts_of_few_bytes_need_no_tokenizer() -> None:
    class Counting:
        """The tokenizer, which counts the texts that it was given."""

        def __init__(self) -> None:
            self.encoded = 0
            self._real = byte_tokenizer()

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def __call__(self, texts: list[str], **options: object) -> object:
            self.encoded += len(texts)
            return self._real(texts, **options)

    tokenizer = Counting()
    chat = Chat(tokenizer, end_tokens=[2], context_length=5000)
    before = tokenizer.encoded
    assert chat.measure(prompts_of(*["short?"] * 500), new_tokens=10).too_long == ()
    assert tokenizer.encoded == before


def test_what_is_needed_is_exact_above_the_context_that_every_server_has() -> None:
    chat = Chat(byte_tokenizer(), end_tokens=[2], context_length=10_000)
    short, long, longest = prompts_of("x?", "y" * 500, "z" * 700)
    [_, _, ids] = chat.encode([short, long, longest], new_tokens=1)
    assert chat.measure([longest, short, long], new_tokens=10, exact_above=400).needed == len(ids) + 10
    assert chat.measure([short], new_tokens=10, exact_above=400).needed <= 400


def test_every_prompt_without_room_is_found_after_a_longer_one() -> None:
    """A prompt whose bytes are fewer than the longest prompt's tokens needs a measure of its own all the same."""
    chat = Chat(byte_tokenizer(), end_tokens=[2], context_length=10_000)
    found = chat.measure(prompts_of("x?", "y" * 900, "y" * 500), new_tokens=10, limit=300)
    assert [each.position for each in found.too_long] == [1, 2]
    assert {each.limit for each in found.too_long} == {300}
