"""Chats as token ids, in the form of a job, with the model's end tokens and the tokens of letters."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from craft.contracts.spec.chats import ChatFormat
from craft.core.prompts import MAX_BYTES_PER_TOKEN
from craft.core.rows.fields import excerpt
from craft.errors import ContextTooLong, RequestInvalid
from craft.infra.models.chats.renderer import ChatRenderer
from craft.infra.models.inspection.lengths import max_tokens_of
from craft.infra.models.loading import loading
from craft.infra.models.model_config import context_length
from craft_inference.engine import LetterPrompt, LongPrompt, Prompt, PromptLengths

PLAIN = ChatFormat()
"""Chats by the model's own template, without arguments and with the present date."""


def chat_of(folder: Path, *, max_tokens: int | None, form: ChatFormat = PLAIN) -> "Chat":
    """The `Chat` of a checked model folder; the weights are loaded elsewhere. Raises ModelRejected."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    with loading(folder.name):
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        generation: Any = GenerationConfig.from_model_config(config)
        with suppress(OSError):
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    length = context_length_of(config)
    return Chat(
        tokenizer,
        end_tokens=end_tokens_of(generation),
        context_length=length if max_tokens is None else min(length, max_tokens),
        form=form,
        own_length=length,
    )


def context_length_of(config: Any) -> int:
    """The context length in tokens of a model's configuration."""
    return context_length(config.to_dict()) or 2048


def end_tokens_of(generation: Any) -> list[int]:
    """The ids at which a generation configuration ends a reply."""
    ends = getattr(generation, "eos_token_id", None)
    return ends if isinstance(ends, list) else [] if ends is None else [int(ends)]


class Chat:
    """A tokenizer with a form of chats, and the context length that limits each chat.

    `own_length` is the model's own context length, where it is not the limit.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        end_tokens: Sequence[int],
        context_length: int,
        own_length: int | None = None,
        form: ChatFormat = PLAIN,
    ) -> None:
        """`end_tokens` are the configuration's. Raises ModelRejected if neither tokenizer nor form has a template."""
        self._tokenizer = tokenizer
        self._renderer = ChatRenderer(tokenizer, form)
        self.form = form
        self._named_ends = tuple(end_tokens)
        self.context_length = context_length
        self.own_length = context_length if own_length is None else own_length
        self.end_tokens: tuple[int, ...] = tuple(sorted({*end_tokens, *self._renderer.end_tokens(None)}))

    def in_form(self, form: ChatFormat) -> "Chat":
        """The same tokenizer and context with another form of chats. Raises ModelRejected."""
        return Chat(
            self._tokenizer,
            end_tokens=self._named_ends,
            context_length=self.context_length,
            own_length=self.own_length,
            form=form,
        )

    def encode(self, prompts: Sequence[Prompt], *, new_tokens: int) -> list[list[int]]:
        """Each chat's ids, up to the assistant's header. Raises ContextTooLong if `new_tokens` more do not fit."""
        for prompt in prompts:
            self._check_size(prompt)
        encoded = self._renderer.ids([self._text(prompt) for prompt in prompts])
        for prompt, ids in zip(prompts, encoded, strict=True):
            if len(ids) + new_tokens > self.context_length:
                raise ContextTooLong(
                    f"The prompt of {prompt.id} has {len(ids)} tokens; with {new_tokens} new ones that is more "
                    f"than the model's {self.context_length}. It begins: {excerpt(prompt.messages[-1].content)!r}.",
                    hint="Shorten the question or the shots, ask for fewer new tokens, or choose a longer context.",
                    param="messages",
                )
        return encoded

    def measure(
        self, prompts: Iterable[Prompt], *, new_tokens: int, limit: int | None = None, exact_above: int | None = None
    ) -> PromptLengths:
        """See `Engine.measure`. `limit` is the context, by default the model's.

        A prompt of few bytes is not rendered, as a token is at least one byte of its text: `needed` is exact where it
        is above `exact_above`, by default the limit.
        """
        limit = self.context_length if limit is None else limit
        exact_above = limit if exact_above is None else min(limit, exact_above)
        needed, found = 0, []
        around: dict[int, int] = {}
        for position, prompt in enumerate(prompts):
            turns, content = len(prompt.messages), sum(max_tokens_of(turn.content.encode()) for turn in prompt.messages)
            if turns not in around:
                # The template's own text is the same around every chat of so many turns.
                around[turns] = max_tokens_of(self._text(prompt).encode())
            most = content + around[turns] + new_tokens
            if most <= max(exact_above, min(needed, limit)):
                needed = max(needed, min(most, exact_above))
                continue
            [ids] = self._renderer.ids([self._text(prompt)])
            needed = max(needed, len(ids) + new_tokens)
            if len(ids) + new_tokens > limit:
                found.append(LongPrompt(position, len(ids), limit))
        return PromptLengths(needed, tuple(found))

    def _check_size(self, prompt: Prompt) -> None:
        # Before rendering and tokenising, which take memory many times the size of the text.
        most = self.context_length * MAX_BYTES_PER_TOKEN
        size = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in prompt.messages)
        if size > most:
            raise ContextTooLong(
                f"The prompt of {prompt.id} has {size:,} bytes; the model's {self.context_length} tokens hold {most:,} "
                "at the very most.",
                hint="Shorten the question, the template or the shots, or choose a model with a longer context.",
                param="messages",
            )

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated ids, without control tokens, but for the tags of a thought."""
        return self._renderer.decode(tokens)

    @property
    def asks_for_control_tokens(self) -> bool:
        """True if a server must decode replies with their control tokens, because the tags of a thought are some."""
        return self._renderer.has_control_tags

    def text_of(self, decoded: str) -> str:
        """The text of a reply that a server decoded with its control tokens, as `decode` gives it."""
        return self._renderer.without_control(decoded)

    def letter_tokens(self, prompts: Sequence[LetterPrompt]) -> list[list[int]]:
        """The token of each letter at the start of the assistant's turn. Raises RequestInvalid for several tokens.

        Each chat is encoded with the letter behind it: "A" alone may be another token (" A", "▁A").
        """
        if not prompts:
            return []
        start = self._text(prompts[0])
        letters = sorted({letter for prompt in prompts for letter in prompt.letters})
        before, *after = self._renderer.ids([start, *(start + letter for letter in letters)])
        tokens: dict[str, int] = {}
        for letter, ids in zip(letters, after, strict=True):
            if ids[: len(before)] != before or len(ids) != len(before) + 1:
                raise RequestInvalid(
                    f"{letter!r} is not one token for this model, after the header {start[-20:]!r}.",
                    hint="A blank at the end of the chat template's header is the usual cause: remove it, or ask the "
                    "questions as open-ended ones.",
                    param="letters",
                )
            tokens[letter] = ids[-1]
        return [[tokens[letter] for letter in prompt.letters] for prompt in prompts]

    def text(self, prompt: Prompt) -> str:
        """A chat as text, up to the assistant's header. Its ids, without further special tokens, are `encode`'s."""
        return self._text(prompt)

    def _text(self, prompt: Prompt) -> str:
        return self._renderer.prompt(prompt.messages)
