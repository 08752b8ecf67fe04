"""Structured logs: a line is an event with fields, as text for people or JSON for machines, without secrets.

Within a request or a span each line carries the `trace_id`, and the `request_id` or the job, stage and attempt.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic import BaseModel, SecretStr

from craft.infra.observe import telemetry
from craft.infra.settings.settings import Settings

_metrics_log = logging.getLogger("craft.metrics")
_REDACTED = "[redacted]"
_SHORTEST_SECRET = 6
"""Shorter secrets are not redacted: replacing `a` everywhere would destroy the log and reveal the secret."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings, service: str, *, stream: TextIO | None = None) -> None:
    """Write this process's logs to `stream` (standard error) in the settings' format. Safe to call again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    form = _JsonFormatter if settings.log_format == "json" else _TextFormatter
    handler.setFormatter(form(service, redactor(settings)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # They log a line for each request; our own client and server log what is needed.
    for noisy in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _EventLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds its own fields to each line. Fields of the call's `extra` take precedence."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


def stage_logger(*, job: str, stage: str, attempt: int) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose lines carry the job, the stage's name, the attempt and the current trace, in every thread.

    `telemetry.stage_span` adds the same fields to the lines of other loggers, but only in its own thread.
    """
    fields: dict[str, object] = {"job": job, "stage": stage, "attempt": attempt}
    if trace_id := telemetry.log_fields().get("trace_id"):
        fields["trace_id"] = trace_id
    return _EventLogger(logging.getLogger("craft.stage"), fields)


def secrets_in(model: BaseModel) -> tuple[str, ...]:
    """Every secret string in the settings, passwords inside URLs included, longest first."""
    secrets: set[str] = set()
    for value in dict(model).values():
        if isinstance(value, SecretStr):
            secrets.add(value.get_secret_value())
        elif isinstance(value, BaseModel):
            secrets.update(secrets_in(value))
        elif isinstance(value, str) and "://" in value:
            secrets.update(_password_in(value))
    return tuple(sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True))


def _password_in(url: str) -> Iterable[str]:
    user_info, at, _ = url.partition("://")[2].rpartition("@")
    _, colon, password = user_info.partition(":")
    return [password] if at and colon and password else []


def redactor(settings: Settings) -> Callable[[str], str]:
    """A function that replaces every secret of the settings in a text."""
    secrets = secrets_in(settings)

    def redacted(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, _REDACTED)
        return text

    return redacted


class _Formatter(logging.Formatter):
    def __init__(self, service: str, redacted: Callable[[str], str]) -> None:
        super().__init__()
        self._service = service
        self._redacted = redacted

    def _members(self, record: logging.LogRecord) -> dict[str, object]:
        extra = {k: v for k, v in vars(record).items() if k not in _STANDARD and v is not None}
        # The line's own fields take precedence and come first.
        extra |= {k: v for k, v in telemetry.log_fields().items() if k not in extra}
        return {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
            **{key: value for key, value in extra.items() if key not in {"data", "stack"}},
        }

    def _trace(self, record: logging.LogRecord) -> str | None:
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else None


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        members = self._members(record)
        if trace := self._trace(record):
            members["trace"] = trace
        return json.dumps(_clean(members, self._redacted), ensure_ascii=True, default=str)


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        members = self._members(record)
        head = f"{members.pop('time')} {members.pop('level')!s:7} {members.pop('service')} {members.pop('event')}"
        line = " ".join([head, *(f"{key}={_value(value)}" for key, value in members.items())])
        # One event is one line: a line break in an input must not forge a second event.
        line = line.replace("\r", "\\r").replace("\n", "\\n")
        trace = self._trace(record)
        return self._redacted(f"{line}\n{trace}" if trace else line)


def _value(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _clean(value: object, redacted: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {str(key): _clean(item, redacted) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, redacted) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted(str(value))


def never_failing(count: Callable[[], None]) -> None:
    """Count, and only log an error of counting: the counted call is already committed."""
    try:
        count()
    except Exception:  # the edge of counting
        _metrics_log.warning("not_counted", exc_info=True)
