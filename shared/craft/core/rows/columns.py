"""Maps a dataset's own columns to our names: rows in any shape become rows that `read_row` reads."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from craft.core.rows.chats import MESSAGES, has_earlier_turns, last_exchange
from craft.core.rows.fields import is_list, is_missing
from craft.core.rows.options import OptionColumns
from craft.core.rows.written import WrittenInvalid, read_written
from craft.errors import RequestInvalid

COLUMNS = ("question", "answers", "answer", "choices", "id", "category")
"""The names that `read_row` reads."""
OPTIONS = "options"
"""Read as `choices` where there are none."""
_OF_SEVERAL = ("answers", "choices")
_INSTEAD_OF: Mapping[str, tuple[str, ...]] = {
    "answer": ("answers",),
    "answers": ("answer",),
    MESSAGES: ("question", "answers", "answer", "choices"),
}
_ABSENT = object()
_HEAD = re.compile(r"[a-z]+")
Paths = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """By our name, the dataset's own column or a dotted path into one (`data.prompt`, `answers.text`, `choices.0`).

    `answers` and `choices` may have several. A column whose name is `a.b` comes before a path. Columns that are not
    mapped keep their names, but a mapped answer replaces every other column that could be one.
    """

    paths: Paths

    def __post_init__(self) -> None:
        """Raises RequestInvalid for a name that is not ours, `messages` beside a name that it replaces, wrong lists."""
        unknown = [name for name in self.paths if name not in {*COLUMNS, MESSAGES}]
        if unknown:
            raise RequestInvalid(
                f"`columns` knows no {unknown[0][:100]}.",
                hint=f"Map some of {', '.join((*COLUMNS, MESSAGES))} to columns of the file.",
                param="columns",
            )
        doubled = [name for name in _INSTEAD_OF[MESSAGES] if name in self.paths]
        if MESSAGES in self.paths and doubled:
            raise RequestInvalid(
                f"`columns` maps both `messages` and `{doubled[0]}`.",
                hint="A chat holds question and answer; beside `messages` only `id` and `category` can be mapped.",
                param="columns",
            )
        twice = [path for path in self.paths.values() if not isinstance(path, str) and len(set(path)) < len(path)]
        if twice:
            raise RequestInvalid(
                f"`columns` names one column twice: {', '.join(twice[0])[:200]}.",
                hint="Each option, and each answer, has a column of its own.",
                param="columns",
            )
        several = [name for name, path in self.paths.items() if not isinstance(path, str) and name not in _OF_SEVERAL]
        if several or not all(self.paths.values()):
            raise RequestInvalid(
                f"`columns` maps {several[0]} to several columns." if several else "`columns` maps a name to nothing.",
                hint='Only answers and choices may have several, such as {"choices": ["A", "B", "C", "D"]}.',
                param="columns",
            )

    def apply(self, row: Mapping[str, object], *, options: OptionColumns | None = None) -> dict[str, object]:
        """The row under our names. `options` are the dataset's columns of one option each.

        Raises RowInvalid for a chat without a question and its answer.
        """
        mapped = {name: row[name] for name in self._unmapped() if name in row}
        for ours, path in self.paths.items():
            value = (
                _found(row, path) if isinstance(path, str) else _found_in_all(row, path, is_choices=ours == "choices")
            )
            if value is not _ABSENT and value is not None:
                mapped[ours] = value
        if MESSAGES in self.paths:
            question, answer = last_exchange(mapped.pop(MESSAGES, None))
            mapped |= {"question": question, "answer": answer}
        elif "choices" not in self.paths and not mapped.get("choices"):
            mapped |= self._options(row, options)
        return mapped

    def earlier_turns(self, row: Mapping[str, object]) -> bool:
        """Whether the row's chat has turns before its last question, which are not read."""
        path = self.paths.get(MESSAGES)
        return isinstance(path, str) and has_earlier_turns(_found(row, path))

    def _options(self, row: Mapping[str, object], columns: OptionColumns | None) -> dict[str, object]:
        is_mapped = any(path.partition(".")[0] == OPTIONS for ours in self.paths for path in self.own_paths(ours))
        given = None if is_mapped else row.get(OPTIONS)
        given = given or (columns.values(row) if columns else None)
        return {"choices": given} if given else {}

    def own_name(self, field: str) -> str:
        """The dataset's own name for a field of `RowInvalid`: `answers[0]` may be its `completion[0]`."""
        found = _HEAD.match(field)
        ours = found[0] if found else field
        for name in (ours, *_INSTEAD_OF.get(ours, ())):
            if name in self.paths:
                path = self.paths[name]
                return (path if isinstance(path, str) else ",".join(path)) + field.removeprefix(ours)
        chat = ours in _INSTEAD_OF[MESSAGES] and MESSAGES in self.paths
        return str(self.paths[MESSAGES]) if chat else field

    def own_paths(self, ours: str) -> Sequence[str]:
        """The columns or paths that `ours` is read from."""
        path = self.paths.get(ours, ours if ours in self._unmapped() else ())
        return [path] if isinstance(path, str) else path

    def absent(self, columns: Collection[str]) -> Sequence[str]:
        """The mapped names and paths that a dataset with these columns does not have."""
        paths = [each for ours in self.paths for each in self.own_paths(ours)]
        return [path for path in paths if column_of(path, columns) not in columns]

    def read(
        self, columns: Collection[str], *, reads_options: bool = False, options: OptionColumns | None = None
    ) -> set[str]:
        """Those of a dataset's columns from which something is read.

        `reads_options`: some rows have options elsewhere than in `choices`; `options` are the columns of one each.
        """
        paths = [path for ours in (*COLUMNS, MESSAGES) for path in self.own_paths(ours)]
        found = {column_of(path, columns) for path in paths} & set(columns)
        if not reads_options or self.paths.keys() & {"choices", MESSAGES}:
            return found
        own = [OPTIONS] if OPTIONS in columns else options.names if options else []
        return found | (set(own) & set(columns))

    def _unmapped(self) -> list[str]:
        """Our names that are columns of their own."""
        if not self.paths:
            return list(COLUMNS)
        replaced = {*self.paths, *(name for ours in self.paths for name in _INSTEAD_OF.get(ours, ()))}
        return [name for name in COLUMNS if name not in replaced]


NO_MAP = ColumnMap({})


def column_of(path: str, columns: Collection[str]) -> str:
    """The column that a path begins in."""
    return path if path in columns else path.partition(".")[0]


def _found(row: Mapping[str, object], path: str) -> object:
    if path in row:
        return row[path]
    value: object = row
    for part in path.split("."):
        if isinstance(value, str):
            with suppress(WrittenInvalid):
                value = read_written(value)
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _found_in_all(row: Mapping[str, object], paths: Sequence[str], *, is_choices: bool) -> list[object] | None:
    """The values of several columns: options up to the last one that is there, answers without those that are not."""
    values = [_present(_found(row, path)) for path in paths]
    if not is_choices:
        return [each for value in values if value is not None for each in _items(value)] or None
    while values and values[-1] is None:
        values.pop()
    return values or None


def _present(value: object) -> object:
    return None if value is _ABSENT or is_missing(value) or value == "" else value


def _items(value: object) -> Sequence[object]:
    """The items of a list, also of one that is written as text; else the value itself."""
    if isinstance(value, str):
        with suppress(WrittenInvalid):
            value = read_written(value)
    return value if is_list(value) else [value]
