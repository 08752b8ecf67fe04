"""Chat templates that write the current date, made to write one and the same date for ever."""

import json
from collections.abc import Mapping
from datetime import date

_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905
_PERCENT = "\x00"


def frozen(template: str, day: date) -> str:
    """The template with `strftime_now` as a macro of its own, which tells the first second of `day`, in English.

    A macro, because every renderer obeys the template: transformers, vLLM, and whoever loads the adapter later.
    """
    steps = {"%%": _PERCENT, **_directives(day), _PERCENT: "%"}
    replaced = "".join(f" | replace({json.dumps(old)}, {json.dumps(new)})" for old, new in steps.items())
    # The sandbox drops the first newline after a block: this one, and none of the template's own.
    return f"{{%- macro strftime_now(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}\n{template}"


def _directives(day: date) -> Mapping[str, str]:
    """The directives of strftime with their texts; those with a modifier first, as they hold others."""
    weekday, month = _DAYS[day.weekday()], _MONTHS[day.month - 1]
    year, week, week_day = day.isocalendar()
    number = day.timetuple().tm_yday
    numbers = {"d": day.day, "m": day.month, "y": day.year % 100, "H": 0, "I": 12, "M": 0, "S": 0, "j": number}
    short = {f"%-{letter}": str(value) for letter, value in numbers.items()}
    whole = {
        "c": f"{weekday[:3]} {month[:3]} {day.day:2d} 00:00:00 {day.year}",
        "x": f"{day:%m/%d}/{day.year % 100:02d}",
        "D": f"{day:%m/%d}/{day.year % 100:02d}",
        "F": day.isoformat(),
        "X": "00:00:00",
        "T": "00:00:00",
        "R": "00:00",
        "r": "12:00:00 AM",
        "a": weekday[:3],
        "A": weekday,
        "b": month[:3],
        "h": month[:3],
        "B": month,
        "Y": f"{day.year}",
        "C": f"{day.year // 100:02d}",
        "G": f"{year}",
        "g": f"{year % 100:02d}",
        "V": f"{week:02d}",
        "u": f"{week_day}",
        "w": f"{week_day % 7}",
        "U": f"{(number + 6 - week_day % 7) // 7:02d}",
        "W": f"{(number + 6 - day.weekday()) // 7:02d}",
        "e": f"{day.day:2d}",
        "k": " 0",
        "l": "12",
        "p": "AM",
        "P": "am",
        "f": "000000",
        "z": "",
        "Z": "",
        "n": "\n",
        "t": "\t",
    }
    padded = {letter: f"{value:0{3 if letter == 'j' else 2}d}" for letter, value in numbers.items()}
    return {**short, **{f"%{letter}": text for letter, text in {**whole, **padded}.items()}}
