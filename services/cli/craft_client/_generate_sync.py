"""Writes `craft_client/sync` from `craft_client/aio`. With `--check` it only compares the two.

Each call of the API is written once, as a coroutine. The same code without `async` and `await` is the other client.
"""

import re
import subprocess
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_HEADER = (
    "# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.\n"
)
_RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(iter_lines|iter_bytes|read|close)\(", r"\1("),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\basyncio\b", "time"),
    (r"craft_client\.aio\b", "craft_client.sync"),
    (r"\bAwaitable, ", ""),
    (r"The asynchronous client\. .*", 'The synchronous client."""'),
]
_AWAITABLE = "Awaitable["


def synchronous(source: str) -> str:
    """The same code without `async` and `await`, formatted by ruff."""
    text = source
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    text = _HEADER + _unwrapped(text)
    for words in (["check", "--select", "I,F401", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(_PACKAGE / "sync" / "x.py"), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own command
    return text


def _unwrapped(text: str) -> str:
    """Replace each `Awaitable[X]` by `X`, where X may have brackets of its own."""
    while (start := text.find(_AWAITABLE)) >= 0:
        depth, end = 1, start + len(_AWAITABLE)
        while depth:
            depth += {"[": 1, "]": -1}.get(text[end], 0)
            end += 1
        text = text[:start] + text[start + len(_AWAITABLE) : end - 1] + text[end:]
    return text


def main() -> None:
    """Write the files. With `--check`, print the names of those that differ and exit with 1."""
    generated = {
        _PACKAGE / "sync" / path.name: synchronous(path.read_text()) for path in (_PACKAGE / "aio").glob("*.py")
    }
    if "--check" in sys.argv:
        old = [path.name for path, text in generated.items() if not path.exists() or path.read_text() != text]
        old += [path.name for path in (_PACKAGE / "sync").glob("*.py") if path not in generated]
        sys.exit(f"Run `make client`: {', '.join(sorted(old))} of craft_client/sync differ." if old else 0)
    for path, text in generated.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
