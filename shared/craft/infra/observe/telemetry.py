"""Traces: the request that creates a job, each stage's wait in the queue, and each attempt. Log lines carry their ids.

Where the settings name a collector, spans are sent to it by OTLP over HTTP. Otherwise no span is recorded, but the ids
still travel: the caller's own (W3C `traceparent`) or new ones. They find a job's lines in the logs of all processes.
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

AttributeValue = str | int | float | bool

ROUTINE = "craft.routine"
"""The attribute that keeps a span from export."""
_HEADER = "traceparent"
_MAX_HEADER_LENGTH = 128
_FLUSH_SECONDS = 1.0
_LOG_FIELDS = context.create_key("craft.log_fields")
_NOWHERE = Context()
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Tracing:
    """This process's tracer. OpenTelemetry's global provider is not used, because it can be set only once."""

    tracer: Tracer
    provider: "TracerProvider | None" = None


_tracing = _Tracing(NoOpTracer())


def configure(settings: Settings, service: str) -> None:
    """Export this process's spans to the settings' collector, if they name one. Safe to call again."""
    before = _tracing.provider
    if settings.otlp_endpoint:
        # Imported here, because the SDK takes 150 ms to import.
        from craft.infra.observe.telemetry_export import exporting_provider

        _tracing.provider = exporting_provider(settings.otlp_endpoint, service)
        _tracing.tracer = _tracing.provider.get_tracer("craft")
    else:
        _tracing.provider, _tracing.tracer = None, NoOpTracer()
    if before is not None:
        before.shutdown()


def flush(seconds: float = _FLUSH_SECONDS) -> None:
    """Send the finished spans. A collector that does not answer delays the caller by `seconds` at most."""
    if _tracing.provider is not None:
        sending = threading.Thread(target=_tracing.provider.force_flush, name="telemetry-flush", daemon=True)
        sending.start()
        sending.join(seconds)


@contextmanager
def request_span(*, method: str, traceparent: str | None, request_id: str) -> Iterator[None]:
    """The span of a request that this process answers, a child of the caller's span. Call `record_response` inside."""
    attributes: dict[str, AttributeValue] = {"http.request.method": method, "craft.request_id": request_id}
    span = _start_span(method, _remote(traceparent), kind=SpanKind.SERVER, attributes=attributes)
    with _current_span(span, {"request_id": request_id}):
        yield


def record_response(*, method: str, route: str, status: int) -> None:
    """Record the response on the current span. Its name has the route and not the path: there are too many paths."""
    current = trace.get_current_span()
    if current.is_recording():
        current.update_name(f"{method} {route}")
        current.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            current.set_status(StatusCode.ERROR)


@contextmanager
def stage_span(claimed: ClaimedStage) -> Iterator[None]:
    """The span of one attempt and the span of the wait before it, both children of the job's span.

    Inside, log lines carry the job, the stage and the attempt. Report the end with `set_attributes` and `mark_failed`.
    """
    job = _remote(claimed.traceparent)
    attributes = stage_attributes(
        job_id=claimed.job_id,
        stage=claimed.name,
        kind=claimed.parameters.kind.value,
        attempt=claimed.attempt,
        fence=claimed.fence,
    )
    # The claim was answered just now. The wait counts back from here, so that both spans use one clock.
    now = time.time()
    past_span("queue", claimed.traceparent, began=now - claimed.waited_seconds, ended=now, attributes=attributes)
    fields = {"job": claimed.job_id, "stage": claimed.name, "attempt": claimed.attempt}
    with _current_span(_start_span("stage", job, kind=SpanKind.CONSUMER, attributes=attributes), fields):
        yield


def stage_attributes(*, job_id: str, stage: str, kind: str, attempt: int, fence: int) -> dict[str, AttributeValue]:
    """The attributes of an attempt's spans."""
    return _prefixed({"job_id": job_id, "stage": stage, "stage_kind": kind, "attempt": attempt, "fence": fence})


def past_span(
    name: str, traceparent: str | None, *, began: float, ended: float, attributes: Mapping[str, AttributeValue]
) -> None:
    """Record a span after its end, as a child of `traceparent`; times are Unix seconds. Untraced jobs get none."""
    if traceparent is None or _tracing.provider is None:
        return
    span = _tracing.tracer.start_span(name, _remote(traceparent), attributes=attributes, start_time=_nanoseconds(began))
    if "craft.error_code" in attributes:
        span.set_status(StatusCode.ERROR)
    span.end(_nanoseconds(ended))


def set_attributes(**attributes: AttributeValue) -> None:
    """Set attributes of the current span."""
    trace.get_current_span().set_attributes(_prefixed(attributes))


def mark_failed(code: str) -> None:
    """Mark the current span as failed. Only the code is exported, because a message may quote a user's data."""
    current = trace.get_current_span()
    current.set_attributes(_prefixed({"error_code": code}))
    current.set_status(Status(StatusCode.ERROR, code))


def mark_routine() -> None:
    """Keep the current span from export if its request succeeds, as thousands of heartbeats do."""
    trace.get_current_span().set_attribute(ROUTINE, value=True)


def current_traceparent() -> str | None:
    """The current span as a W3C `traceparent`; None outside of a span."""
    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id in a `traceparent`."""
    parent = trace.get_current_span(_remote(traceparent)).get_span_context()
    return f"{parent.trace_id:032x}" if parent.is_valid else None


def trace_headers() -> dict[str, str]:
    """The headers that make the spans of another of our services children of the current span."""
    here = current_traceparent()
    return {_HEADER: here} if here else {}


def log_fields() -> dict[str, object]:
    """The fields of every log line in the current context."""
    fields = context.get_value(_LOG_FIELDS)
    members: dict[str, object] = dict(fields) if isinstance(fields, Mapping) else {}
    here = trace.get_current_span().get_span_context()
    if here.is_valid:
        members["trace_id"] = f"{here.trace_id:032x}"
    return members


def _remote(traceparent: str | None) -> Context:
    """The context of a `traceparent` header; an empty one where the header is absent or malformed."""
    if traceparent is None or len(traceparent) > _MAX_HEADER_LENGTH:
        return _NOWHERE
    return _PROPAGATOR.extract({_HEADER: traceparent}, _NOWHERE)


def _start_span(
    name: str,
    parent: Context,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Span:
    """Start a span. Where none is recorded, it has its parent's ids or new ones and is marked as not sampled."""
    span = _tracing.tracer.start_span(name, parent, kind=kind, attributes=attributes)
    if span.get_span_context().is_valid:
        return span
    flags = TraceFlags(TraceFlags.DEFAULT)
    ids = SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False, trace_flags=flags)
    return NonRecordingSpan(ids)


@contextmanager
def _current_span(span: Span, fields: Mapping[str, object] | None = None) -> Iterator[None]:
    here = trace.set_span_in_context(span)
    if fields is not None:
        here = context.set_value(_LOG_FIELDS, fields, here)
    token = context.attach(here)
    try:
        yield
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        context.detach(token)
        span.end()


def _prefixed(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {f"craft.{name}": value for name, value in attributes.items()}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
