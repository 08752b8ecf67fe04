"""Exports spans by OTLP over HTTP. Imported only where the settings name a collector.

OpenTelemetry also reads its own environment variables: `OTEL_EXPORTER_OTLP_HEADERS` for a collector that asks for a
token, `OTEL_TRACES_SAMPLER` to record fewer spans, `OTEL_RESOURCE_ATTRIBUTES`.
"""

import logging
import os
import socket
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from craft.infra.observe.telemetry import ROUTINE

_PATH = "/v1/traces"
_EXPORT_SECONDS = 5.0
_DELAY_MILLISECONDS = 1000.0
"""Spans wait this long to be sent as a batch. A killed process loses them."""
_DEFECT = 500
_log = logging.getLogger("craft.telemetry")
_library_log = logging.getLogger("opentelemetry.exporter")


class _WithoutRoutine(BatchSpanProcessor):
    """Drops successful routine spans: a day of heartbeats is more spans than one trace can show."""

    def on_end(self, span: ReadableSpan) -> None:
        if not _is_routine(span):
            super().on_end(span)


def _is_routine(span: ReadableSpan) -> bool:
    attributes = span.attributes or {}
    status = attributes.get("http.response.status_code", 0)
    return bool(attributes.get(ROUTINE)) and isinstance(status, int) and status < _DEFECT


class _LoggedExporter(SpanExporter):
    """Logs a failing collector once, and its recovery once. The library alone would log every failed batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._troubled = False
        _library_log.setLevel(logging.ERROR)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        troubled = result is not SpanExportResult.SUCCESS
        if troubled != self._troubled:
            self._troubled = troubled
            _library_log.setLevel(logging.CRITICAL if troubled else logging.ERROR)
            _log.warning("traces_are_lost" if troubled else "traces_arrive_again")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def exporting_provider(endpoint: str, service: str) -> TracerProvider:
    """A provider that sends spans to the collector with the base URL `endpoint`, in batches, from its own thread.

    Where the collector does not answer, spans are lost and nothing else happens.
    """
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=url if url.endswith(_PATH) else url + _PATH, timeout=_EXPORT_SECONDS)
    resource = Resource.create(
        {
            "service.name": f"craft-{service}",
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    # No shutdown at exit: it takes half a minute where the collector does not answer; `telemetry.flush` is bounded.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(_WithoutRoutine(_LoggedExporter(exporter), schedule_delay_millis=_DELAY_MILLISECONDS))
    return provider
