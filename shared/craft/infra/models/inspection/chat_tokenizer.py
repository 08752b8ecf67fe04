"""A model's chats as tokens, read from tokenizer.json without the libraries that load models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from craft.core.prompts import ModelMessage
from craft.infra.models.chats.child import with_usual_tokens
from craft.infra.models.chats.ends import end_token
from craft.infra.models.chats.sandbox import ChatTemplate, Value
from craft.infra.models.inspection.documents import EndToken

_MIN_SPECIAL_LENGTH = 3


class ChatTokenizer:
    """Counts the tokens of chats as the engines do: rendered by the template, encoded without further tokens."""

    def __init__(self, tokenizer: Path, template: str, variables: Mapping[str, Value]) -> None:
        """Raises Exception, of the library's choice, for a file that is no tokenizer."""
        from tokenizers import Tokenizer  # a native library that only the child needs

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._variables = with_usual_tokens(variables)
        end = variables.get("eos_token")
        self._named_end = end if isinstance(end, str) else None
        self._template = ChatTemplate(template, self._variables).compiled()

    def special_tokens(self) -> list[str]:
        """The texts that become one control token wherever they stand."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return [token.content for token in added if token.special]

    def highest_id(self) -> int:
        """The highest token id, added tokens among them."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def end_of_turn(self, after_reply: str) -> EndToken | None:
        """The token that ends a reply: the control token after it, else the model's end token if it names one."""
        added = self._tokenizer.get_added_tokens_decoder()
        number = end_token(self.ids(after_reply.lstrip()), control=frozenset(added), end=None)
        if number is not None:
            return EndToken(text=added[number].content, id=number)
        named = self._named_end
        return None if named is None else EndToken(text=named, id=self._tokenizer.token_to_id(named))

    def text(self, messages: Sequence[ModelMessage]) -> str:
        """The chat up to the start of the reply."""
        chat = [message._asdict() for message in messages]
        return self._template.render(
            messages=chat, tools=None, documents=None, add_generation_prompt=True, **self._variables
        )

    def ids(self, text: str) -> list[int]:
        """The token ids of a text."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def count(self, text: str) -> int:
        """The number of a text's tokens."""
        return len(self.ids(text))


def readable_special(tokens: Sequence[str]) -> list[str]:
    """Special tokens that a text does not hold by chance, longest first."""
    marks = {token for token in tokens if len(token) >= _MIN_SPECIAL_LENGTH and not token.isalnum()}
    return sorted(marks, key=lambda token: (-len(token), token))
