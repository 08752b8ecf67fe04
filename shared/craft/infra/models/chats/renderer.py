"""Renders chats with a transformers tokenizer: the one way in which a job's text becomes tokens, in every stage."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from craft.contracts.spec.chats import ChatFormat
from craft.core.replies.thoughts import is_thought_tag
from craft.errors import ModelRejected
from craft.infra.models.chats.dates import frozen
from craft.infra.models.chats.ends import after_reply, end_token
from craft.infra.models.chats.sandbox import Value
from craft.infra.models.chats.templates import no_template

_MARK = "\u241ereply\u241e"


class Turn(Protocol):
    """A message of a chat."""

    @property
    def role(self) -> str:
        """`system`, `user` or `assistant`."""
        ...

    @property
    def content(self) -> str:
        """The text."""
        ...


class ChatRenderer:
    """Chats of one form as text and as token ids. The template writes all special tokens; the tokenizer adds none."""

    def __init__(self, tokenizer: Any, form: ChatFormat, *, model: str = "The model") -> None:
        """`tokenizer` is a transformers tokenizer. Raises ModelRejected if neither it nor the form has a template."""
        if form.template is None and not tokenizer.chat_template:
            raise no_template(model)
        text: str = tokenizer.get_chat_template(form.template)
        self.tokenizer = tokenizer
        self.form = form
        self.template = text if form.date is None else frozen(text, form.date)
        """The template's text, with the form's date."""
        self._end = self._written_end()
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = frozenset({*added.values(), *tokenizer.all_special_tokens})
        self._control_tags = {number: text for number, text in added.items() if is_thought_tag(text)}

    @property
    def arguments(self) -> Mapping[str, Value]:
        """The template's arguments."""
        return self.form.arguments

    @property
    def own_template(self) -> str | None:
        """The template's text where it is not the one of the model's files; None where it is."""
        return None if self.form.template is None and self.form.date is None else self.template

    @property
    def end_of_turn(self) -> int:
        """The token with which the template ends a reply; without one, the tokenizer's end token.

        A model that learned another end token would not stop where the engines expect it. Raises ModelRejected if
        there is neither.
        """
        if self._end is None:
            raise ModelRejected(
                "No token ends the model's replies: its chat template writes none, and its tokenizer names none.",
                hint="Name eos_token in tokenizer_config.json, or give a chat template that ends replies with a token.",
                param="base_model",
            )
        return self._end

    def prompt(self, chat: Sequence[Turn]) -> str:
        """The chat up to the start of the assistant's reply."""
        return self._text(chat, add_generation_prompt=True)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of rendered texts."""
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return encoded

    def end_tokens(self, generation: Any) -> tuple[int, ...]:
        """The tokens at which a reply ends, sorted: the template's, the tokenizer's, and those of the configuration.

        `generation` is the model's GenerationConfig, or None.
        """
        named = getattr(generation, "eos_token_id", None)
        listed = named if isinstance(named, list) else [named]
        own = (self._end, self.tokenizer.eos_token_id, *listed)
        return tuple(sorted({int(token) for token in own if token is not None}))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply's tokens, without control tokens, but for the tags of a thought: guards look for them."""
        tags = self._control_tags
        if tags.keys().isdisjoint(tokens):
            return self._plain(tokens)
        pieces, start = [], 0
        for at, token in enumerate(tokens):
            if token in tags:
                pieces += [self._plain(tokens[start:at]), tags[token]]
                start = at + 1
        return "".join([*pieces, self._plain(tokens[start:])])

    def without_control(self, text: str) -> str:
        """The text of a reply that was decoded with all control tokens, as `decode` gives it."""
        shown = set(self._control_tags.values())
        hidden = sorted((token for token in self._special if token not in shown), key=len, reverse=True)
        return re.sub("|".join(map(re.escape, hidden)), "", text) if hidden else text

    @property
    def has_control_tags(self) -> bool:
        """True if the tags of a thought are control tokens, which decoders leave out unless they are told not to."""
        return bool(self._control_tags)

    def _plain(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _text(self, chat: Sequence[Turn], *, add_generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in chat],
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **self.arguments,
        )
        return text

    def _written_end(self) -> int | None:
        whole = self._text([_Said("user", "?"), _Said("assistant", _MARK)], add_generation_prompt=False)
        [after] = self.ids([after_reply(whole, _MARK)])
        # Tokens that no text is split into: those that were added to the vocabulary, and the special ones.
        control = frozenset({*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids})
        return end_token(after, control=control, end=self.tokenizer.eos_token_id)


class _Said(NamedTuple):
    role: str
    content: str
