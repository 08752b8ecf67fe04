"""Spans on their way out, by OTLP over HTTP. Imported only where the settings name a collector.

What OpenTelemetry itself reads from the environment still counts: `OTEL_EXPORTER_OTLP_HEADERS` for a collector that
asks for a token, `OTEL_TRACES_SAMPLER` to record fewer, `OTEL_RESOURCE_ATTRIBUTES`.
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
"""Spans wait so long for company; those of a killed process are lost."""
_DEFECT = 500
_log = logging.getLogger("craft.telemetry")
_library_log = logging.getLogger("opentelemetry.exporter")


class _WorthTelling(BatchSpanProcessor):
    """Leaves out routine that went well: a day of heartbeats is more spans than a trace can hold."""

    def on_end(self, span: ReadableSpan) -> None:
        if not _went_well(span):
            super().on_end(span)


def _went_well(span: ReadableSpan) -> bool:
    facts = span.attributes or {}
    status = facts.get("http.response.status_code", 0)
    return bool(facts.get(ROUTINE)) and isinstance(status, int) and status < _DEFECT


class _SaidOnce(SpanExporter):
    """Trouble with the collector is logged once, and its end; the library alone would say it with each batch."""

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


def exporting(endpoint: str, service: str) -> TracerProvider:
    """A provider whose spans go to the collector at `endpoint`, its base URL, in batches and from a thread of its own.

    A collector that does not answer costs spans and nothing else.
    """
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=url if url.endswith(_PATH) else url + _PATH, timeout=_EXPORT_SECONDS)
    resource = Resource.create(
        {
            "service.name": f"craft-{service}",
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    # Not at exit: with the collector away that would take half a minute; `telemetry.flush` is bounded.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(_WorthTelling(_SaidOnce(exporter), schedule_delay_millis=_DELAY_MILLISECONDS))
    return provider
