"""The embedded engine: a transformers model in this process, on the CPU."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from craft.contracts.spec.chats import ChatFormat
from craft.core.replies.reply import FinishReason
from craft.errors import HostOutOfMemory
from craft.infra.models.loading import architecture_in, load_causal_lm, load_tokenizer, loading
from craft_inference.embedded import prefix_attention
from craft_inference.embedded.adapters import AdapterSlot
from craft_inference.embedded.causal_lm import CausalLM
from craft_inference.embedded.decoding import Decoding, Draws, OnDone
from craft_inference.embedded.plain_decoder import PlainDecoder, check_caches
from craft_inference.embedded.sampling import uniforms
from craft_inference.embedded.shared_decoder import SharedPrefixDecoder
from craft_inference.engine import (
    EngineDescription,
    LetterPrompt,
    Letters,
    LetterScores,
    OnProgress,
    Prompt,
    PromptLengths,
    Replies,
    Reply,
    Sampling,
    Usage,
    no_progress,
    one_by_one,
)
from craft_inference.prompting.chat import PLAIN, Chat, context_length_of, end_tokens_of

Dtype = Literal["bfloat16", "float32", "float16"]
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}
DEFAULT_ROWS = 320
"""Samples that run at a time. On 2 CPU cores, products reach their full speed from 256 rows on."""


class TransformersEngine:
    """See `Engine`. Two threads must not use it at the same time."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        rows: int = DEFAULT_ROWS,
        plain: bool = False,
        form: ChatFormat = PLAIN,
    ) -> None:
        """`plain` decodes with the model's own forward pass, for architectures that our attention does not support."""
        ends = end_tokens_of(getattr(model, "generation_config", None))
        self._model = model.eval()
        self._chat = Chat(tokenizer, end_tokens=ends, context_length=context_length_of(model.config), form=form)
        self._adapter = AdapterSlot(model)
        self._plain = plain
        self._rows = rows
        self._decoding = self._decoder()

    @classmethod
    def load(
        cls, folder: Path, *, dtype: Dtype = "bfloat16", rows: int = DEFAULT_ROWS, form: ChatFormat = PLAIN
    ) -> "TransformersEngine":
        """Load a folder that `craft.infra.models.folders` checked. Raises ModelRejected if it cannot be loaded."""
        prefix_attention.register()
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it so
        with loading(folder.name), _memory_errors():
            plain = not prefix_attention.supports(AutoConfig.from_pretrained(folder, local_files_only=True))
            attention = architecture_in(folder).attention.value if plain else prefix_attention.ATTENTION
            model = load_causal_lm(
                AutoModelForCausalLM, folder, name=folder.name, dtype=_DTYPES[dtype], attention=attention
            )
            if plain:
                check_caches(model)
            tokenizer = load_tokenizer(AutoTokenizer, folder, model, name=folder.name)
        return cls(model, tokenizer, rows=rows, plain=plain, form=form)

    def describe(self) -> EngineDescription:
        """See `Engine.describe`."""
        return EngineDescription(
            name="transformers",
            version=transformers.__version__,
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=str(self._model.device),
            attention="plain" if self._plain else "shared-prefix",
            context_length=context_length_of(self._model.config),
        )

    def use_form(self, form: ChatFormat) -> None:
        """See `Engine.use_form`."""
        self._chat = self._chat.in_form(form)
        self._decoding = self._decoder()

    def _decoder(self) -> Decoding:
        ends = self._chat.end_tokens
        if self._plain:
            return PlainDecoder(self._model, end_tokens=ends, rows=self._rows)
        return SharedPrefixDecoder(CausalLM(self._model), end_tokens=ends, rows=self._rows)

    def measure(self, prompts: Iterable[Prompt], *, new_tokens: int) -> PromptLengths:
        """See `Engine.measure`."""
        return self._chat.measure(prompts, new_tokens=new_tokens)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """See `Engine.generate`."""
        started = time.perf_counter()
        encoded = self._chat.encode(prompts, new_tokens=sampling.max_new_tokens)
        greedy = sampling.temperature == 0.0
        draws = Draws(
            samples=1 if greedy else sampling.samples,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stream=lambda number, sample: uniforms(sampling.seed, prompts[number].id, sample, sampling.max_new_tokens),
        )
        with _memory_errors():
            self._adapter.use(adapter)
            decoded = self._decoding.sample(encoded, draws, _counting(on_progress, len(prompts)))
        rows = []
        for prompt, samples in zip(prompts, decoded.tokens, strict=True):
            times = sampling.samples if greedy else 1
            texts = tuple(self._chat.decode(tokens) for tokens in samples)
            rows.append(Reply(prompt.id, texts * times, tuple(map(self._finish, samples)) * times))
        usage = Usage(sum(map(len, encoded)), decoded.prefilled_tokens, decoded.generated_tokens)
        return Replies(tuple(rows), replace(usage, seconds=time.perf_counter() - started))

    def generate_each(
        self,
        batches: Iterable[Sequence[Prompt]],
        sampling: Sampling,
        *,
        needed: int,  # noqa: ARG002 - the context is the model's own
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Replies, None, None]:
        """See `Engine.generate_each`."""
        return one_by_one(
            batches,
            lambda prompts, progress: self.generate(prompts, sampling, adapter=adapter, on_progress=progress),
            on_progress,
        )

    def _finish(self, tokens: Sequence[int]) -> FinishReason:
        ended = bool(tokens) and tokens[-1] in self._chat.end_tokens
        return FinishReason.STOP if ended else FinishReason.LENGTH

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """See `Engine.letters`."""
        started = time.perf_counter()
        encoded = self._chat.encode(prompts, new_tokens=1)
        choices = self._chat.letter_tokens(prompts)
        with _memory_errors():
            self._adapter.use(adapter)
            scored = self._decoding.score(encoded, choices, _counting(on_progress, len(prompts)))
        rows = tuple(
            LetterScores(prompt.id, tuple(logprobs)) for prompt, logprobs in zip(prompts, scored.logprobs, strict=True)
        )
        usage = Usage(sum(map(len, encoded)), scored.prefilled_tokens, 0)
        return Letters(rows, replace(usage, seconds=time.perf_counter() - started))

    def letters_each(
        self,
        batches: Iterable[Sequence[LetterPrompt]],
        *,
        needed: int,  # noqa: ARG002 - the context is the model's own
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Letters, None, None]:
        """See `Engine.letters_each`."""
        return one_by_one(
            batches,
            lambda prompts, progress: self.letters(prompts, adapter=adapter, on_progress=progress),
            on_progress,
        )


def _counting(on_progress: OnProgress, total: int) -> OnDone:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        on_progress(done, total)

    return count


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn out-of-memory exceptions into errors of our tree, which say what to do."""
    try:
        yield
    except MemoryError as error:
        raise HostOutOfMemory(
            "The machine's memory ran out.", hint="Lower CRAFT_INFERENCE__QUESTIONS_PER_BATCH."
        ) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise HostOutOfMemory(
            "The machine's memory ran out.", hint="Lower CRAFT_INFERENCE__QUESTIONS_PER_BATCH."
        ) from error
