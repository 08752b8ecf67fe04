"""Traces: the request that makes a job, its wait in the queue, each attempt at a stage. Log lines carry their ids.

Spans leave by OTLP over HTTP where the settings name a collector. Elsewhere nothing is recorded; the ids still travel,
the caller's own (W3C `traceparent`) or new ones, so that a job's lines can be found in the logs of all processes.
"""

import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from craft.contracts.stages.claims import ClaimedStage
from craft.infra.settings.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Fact = str | int | float | bool

ROUTINE = "craft.routine"
"""The attribute of a span that is not exported."""
_HEADER = "traceparent"
_LONGEST_HEADER = 128
_FLUSH_SECONDS = 1.0
_LOG_FIELDS = context.create_key("craft.log_fields")
_NOWHERE = Context()
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Tracing:
    """Where this process's spans go. Not OpenTelemetry's global provider: that one can be set only once."""

    tracer: Tracer
    provider: "TracerProvider | None" = None


_tracing = _Tracing(NoOpTracer())


def configure(settings: Settings, service: str) -> None:
    """Export this process's spans to the settings' collector, or nothing where they name none. Safe to call twice."""
    before = _tracing.provider
    if settings.otlp_endpoint:
        # The SDK takes 150 ms to import.
        from craft.infra.observe.telemetry_export import exporting

        _tracing.provider = exporting(settings.otlp_endpoint, service)
        _tracing.tracer = _tracing.provider.get_tracer("craft")
    else:
        _tracing.provider, _tracing.tracer = None, NoOpTracer()
    if before is not None:
        before.shutdown()


def flush(seconds: float = _FLUSH_SECONDS) -> None:
    """Send the spans that have ended; a collector that does not answer holds nobody up for longer than `seconds`."""
    if _tracing.provider is not None:
        sending = threading.Thread(target=_tracing.provider.force_flush, name="telemetry-flush", daemon=True)
        sending.start()
        sending.join(seconds)


@contextmanager
def request_span(*, method: str, traceparent: str | None, request_id: str) -> Iterator[None]:
    """The span of a request that this process answers, below the caller's where there is one; say `answered` inside."""
    facts: dict[str, Fact] = {"http.request.method": method, "craft.request_id": request_id}
    span = _begun(method, _remote(traceparent), kind=SpanKind.SERVER, facts=facts)
    with _inside(span, {"request_id": request_id}):
        yield


def answered(*, method: str, route: str, status: int) -> None:
    """What became of the current request. A span's name holds the route, not the address: addresses are too many."""
    current = trace.get_current_span()
    if current.is_recording():
        current.update_name(f"{method} {route}")
        current.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            current.set_status(StatusCode.ERROR)


@contextmanager
def stage_span(claimed: ClaimedStage) -> Iterator[None]:
    """The span of one attempt, and the one of the wait before it, both below the job's.

    Inside, log lines carry the job, the stage and the attempt. Say how it ended with `note` and `failed`.
    """
    job = _remote(claimed.traceparent)
    facts = stage_facts(
        job_id=claimed.job_id,
        stage=claimed.name,
        kind=claimed.parameters.kind.value,
        attempt=claimed.attempt,
        fence=claimed.fence,
    )
    # The claim has just been answered; the wait counts back from here, so that the two spans meet on one clock.
    now = time.time()
    past_span("queue", claimed.traceparent, began=now - claimed.waited_seconds, ended=now, facts=facts)
    fields = {"job": claimed.job_id, "stage": claimed.name, "attempt": claimed.attempt}
    with _inside(_begun("stage", job, kind=SpanKind.CONSUMER, facts=facts), fields):
        yield


def stage_facts(*, job_id: str, stage: str, kind: str, attempt: int, fence: int) -> dict[str, Fact]:
    """The attributes by which spans of an attempt are found."""
    return _named({"job_id": job_id, "stage": stage, "stage_kind": kind, "attempt": attempt, "fence": fence})


def past_span(name: str, traceparent: str | None, *, began: float, ended: float, facts: Mapping[str, Fact]) -> None:
    """A span told of afterwards, in seconds of Unix time, below `traceparent`; of an untraced job nothing is told."""
    if traceparent is None or _tracing.provider is None:
        return
    told = _tracing.tracer.start_span(name, _remote(traceparent), attributes=facts, start_time=_nanoseconds(began))
    if "craft.error_code" in facts:
        told.set_status(StatusCode.ERROR)
    told.end(_nanoseconds(ended))


def note(**facts: Fact) -> None:
    """Put facts on the current span."""
    trace.get_current_span().set_attributes(_named(facts))


def failed(code: str) -> None:
    """What the current span is about has failed. Only the code leaves: a message may quote a user's data."""
    current = trace.get_current_span()
    current.set_attributes(_named({"error_code": code}))
    current.set_status(Status(StatusCode.ERROR, code))


def routine() -> None:
    """The current span need not leave: nobody looks for the one of a thousand beats that went well."""
    trace.get_current_span().set_attribute(ROUTINE, value=True)


def current_traceparent() -> str | None:
    """The current span as a W3C `traceparent`; None outside of one."""
    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace that a `traceparent` belongs to."""
    found = trace.get_current_span(_remote(traceparent)).get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None


def trace_headers() -> dict[str, str]:
    """What a request to another of our services carries, so that its spans hang below the current one."""
    here = current_traceparent()
    return {_HEADER: here} if here else {}


def log_fields() -> dict[str, object]:
    """What every log line written here and now carries."""
    fields = context.get_value(_LOG_FIELDS)
    found: dict[str, object] = dict(fields) if isinstance(fields, Mapping) else {}
    here = trace.get_current_span().get_span_context()
    if here.is_valid:
        found["trace_id"] = f"{here.trace_id:032x}"
    return found


def _remote(traceparent: str | None) -> Context:
    """The context that the header names; an empty one where it is absent or malformed."""
    if traceparent is None or len(traceparent) > _LONGEST_HEADER:
        return _NOWHERE
    return _PROPAGATOR.extract({_HEADER: traceparent}, _NOWHERE)


def _begun(
    name: str, parent: Context, *, kind: SpanKind = SpanKind.INTERNAL, facts: Mapping[str, Fact] | None = None
) -> Span:
    """A span; where none is recorded, its parent's ids or new ones, which say that they were not sampled."""
    begun = _tracing.tracer.start_span(name, parent, kind=kind, attributes=facts)
    if begun.get_span_context().is_valid:
        return begun
    flags = TraceFlags(TraceFlags.DEFAULT)
    ids = SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False, trace_flags=flags)
    return NonRecordingSpan(ids)


@contextmanager
def _inside(begun: Span, fields: Mapping[str, object] | None = None) -> Iterator[None]:
    here = trace.set_span_in_context(begun)
    if fields is not None:
        here = context.set_value(_LOG_FIELDS, fields, here)
    token = context.attach(here)
    try:
        yield
    except Exception as error:
        begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        context.detach(token)
        begun.end()


def _named(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {f"craft.{name}": value for name, value in facts.items()}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
