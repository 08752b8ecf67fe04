"""Lists and mappings that a file holds as text: JSON's, Python's and numpy's writing are read alike.

Exports write a list of answers in three ways: `["a", "b"]` (JSON), `['a', 'b']` (Python, pandas) and `['a' 'b']`
(numpy; a long one has line breaks, and one in a mapping is `array(['a', 'b'], dtype=object)`). Neighbouring texts are
never joined to one, as Python's own parser would join them.
"""

import json
import re
from collections.abc import Mapping

_MAX_DEPTH = 20
_STRING = re.compile(r"""[uU]?(?:'([^'\\]*+(?:\\.[^'\\]*+)*+)'|"([^"\\]*+(?:\\.[^"\\]*+)*+)")""", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_WORD = re.compile(r"(?:None|null|nan|NaN|True|true|False|false)(?!\w)")
_WORDS: Mapping[str, object] = {"True": True, "true": True, "False": False, "false": False}
_SPACE = re.compile(r"\s*")
_ONE_ITEM = re.compile(r",\s*\)$")
_DTYPE = re.compile(r"\s*,\s*dtype=[^()]*")
_SCALAR = re.compile(r"np\.(?:str_|bool_?|u?int\d*|float\d+)\(")
_PRINTED = re.compile(
    r"(?:np\.(?:str_|bool_?|u?int\d*|float\d+|array)|datetime\.\w+|Timestamp|Decimal|Fraction|UUID)\(.*\)"
    r"|(?:frozenset|deque|OrderedDict|defaultdict|Counter|dict_(?:values|keys|items)|Index|Series|Categorical|tensor)"
    r"\([\[{(].*\)"
    r"|b(['\"]).*\1"
    r"|<[\w. ]+ object at 0x[0-9a-fA-F]+>"
    r"|.*(?:^|\n|,\s)dtype: (?:object|str|string|category|bool|u?int\d+|float\d+|datetime64\[.*\])",
    re.DOTALL,
)
"""Values of programs that are not read, because few mean them: scalars, bytes, sets, a Series, an object's address."""
_DOUBLY_WRITTEN = ('"[', '"{')
_PRINTED_ENDS = (")", "'", '"', ">")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": ""}
_PLAIN = "'\"\\/"
_ARRAY = "array("
_QUOTED_OPENINGS = ("['", '["', "[u'", "[np.", "{'", '{"', _ARRAY)
"""A text that begins so and cannot be read is a broken list, not a text."""


class WrittenInvalid(ValueError):
    """The text looks like a list or a mapping, and cannot be read as one without doubt."""


def read_written(text: str) -> object:
    """The list or mapping that `text` writes; `text` itself if it writes none, such as `[sic]` or `(0, 1)`.

    Raises WrittenInvalid for a text in brackets that can be neither: a list that breaks off, or texts without quotes;
    and for other values as a program prints them, such as `deque(['a'])`.
    """
    stripped = text.strip()
    if _is_printed(stripped):
        raise WrittenInvalid("looks like a list or a value as a program prints it, but cannot be read as one")
    if stripped.startswith(_DOUBLY_WRITTEN):
        return _written_twice(stripped, otherwise=text)
    if not stripped.startswith(("[", "{", "(", _ARRAY)):
        return text
    if stripped[0] == "(":
        return _tuple(stripped) or text
    found = _json(stripped)
    if found is None:
        found = _python(stripped)
    if found is not None:
        return found
    if stripped.startswith(_QUOTED_OPENINGS):
        raise WrittenInvalid("looks like a list or an object, but cannot be read as one")
    if stripped[0] == "[" and stripped[-1] == "]" and "," in stripped:
        raise WrittenInvalid("may be a list whose texts lack quotes, or a text in brackets")
    return text


def _is_printed(text: str) -> bool:
    may_be = text.endswith(_PRINTED_ENDS) or "dtype: " in text
    return may_be and not text.startswith(_ARRAY) and _PRINTED.fullmatch(text) is not None


def _written_twice(text: str, *, otherwise: str) -> object:
    """The list or mapping in a JSON text that holds one as text, as exports write that encode twice."""
    try:
        inner = json.loads(text)
    except ValueError:
        return otherwise
    found = read_written(inner)
    return otherwise if isinstance(found, str) else found


def _json(text: str) -> object:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (list, dict)) else None


def _python(text: str) -> object:
    parser = _Parser(text)
    try:
        found = parser.value(0)
        parser.end()
    except WrittenInvalid:
        return None
    return found


def _tuple(text: str) -> list[object] | None:
    """The texts of a tuple: several quoted texts, or one with a comma. Anything else in parentheses is a text."""
    found = _python(text)
    is_tuple = isinstance(found, list) and (len(found) > 1 or _ONE_ITEM.search(text) is not None)
    is_list = is_tuple and isinstance(found, list) and all(isinstance(item, str) for item in found)
    return found if is_list and isinstance(found, list) else None


class _Parser:
    """Reads values as Python and numpy write them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self, depth: int) -> object:
        """The value that begins here."""
        if depth > _MAX_DEPTH:
            raise WrittenInvalid
        self._skip()
        if string := _STRING.match(self._text, self._at):
            self._at = string.end()
            return _unescaped(string[1] if string[1] is not None else string[2])
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return _number(number[0])
        if word := _WORD.match(self._text, self._at):
            self._at = word.end()
            return _WORDS.get(word[0])
        if scalar := _SCALAR.match(self._text, self._at):
            self._at = scalar.end()
            return self._scalar(depth)
        if self._taken(_ARRAY):
            return self._array(depth)
        if self._taken("["):
            return self._items("]", depth)
        if self._taken("("):
            return self._items(")", depth)
        if self._taken("{"):
            return self._mapping(depth)
        raise WrittenInvalid

    def end(self) -> None:
        """Raise WrittenInvalid unless nothing follows."""
        self._skip()
        if self._at < len(self._text):
            raise WrittenInvalid

    def _scalar(self, depth: int) -> object:
        found = self.value(depth + 1)
        self._skip()
        if isinstance(found, (list, dict)) or not self._taken(")"):
            raise WrittenInvalid
        return found

    def _array(self, depth: int) -> object:
        found = self.value(depth + 1)
        if dtype := _DTYPE.match(self._text, self._at):
            self._at = dtype.end()
        self._skip()
        if not isinstance(found, list) or not self._taken(")"):
            raise WrittenInvalid
        return found

    def _items(self, close: str, depth: int) -> list[object]:
        """The items up to `close`. Commas separate them, or white space, but not now one and now the other."""
        items: list[object] = []
        separators: set[str] = set()
        self._skip()
        while not self._taken(close):
            items.append(self.value(depth + 1))
            spaced = self._skip()
            if self._taken(","):
                separators.add(",")
                self._skip()
            elif not self._text.startswith(close, self._at):
                if not spaced:
                    raise WrittenInvalid
                separators.add(" ")
            if len(separators) > 1:
                raise WrittenInvalid
        return items

    def _mapping(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        self._skip()
        while not self._taken("}"):
            name = self.value(depth + 1)
            self._skip()
            if not isinstance(name, str) or not self._taken(":"):
                raise WrittenInvalid
            found[name] = self.value(depth + 1)
            self._skip()
            if not self._taken(",") and not self._text.startswith("}", self._at):
                raise WrittenInvalid
            self._skip()
        return found

    def _skip(self) -> bool:
        """Skip white space; whether there was any."""
        space = _SPACE.match(self._text, self._at)
        before, self._at = self._at, space.end() if space else self._at
        return self._at > before

    def _taken(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    if text.lstrip("+-").isdigit():
        # More digits than Python turns into a number.
        raise WrittenInvalid
    return float(text)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_character, text)
    # JSON writes a character beyond 16 bits as two halves.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if code[0] in "xuU" and len(code) > 1:
        return _chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return code if code in _PLAIN else _ESCAPED.get(code, escape[0])


def _chr(code: int) -> str:
    try:
        return chr(code)
    except (ValueError, OverflowError):
        raise WrittenInvalid from None
