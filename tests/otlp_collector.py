"""A collector of traces on a real socket: takes OTLP over HTTP and keeps what it understood."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from craft.infra.observe import telemetry
from craft.infra.settings.settings import Settings

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class ToldSpan:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    failed: bool
    facts: dict[str, str | int | float | bool]


class Collector:
    """Answers with `status`, and keeps what came while that was a good one."""

    def __init__(self) -> None:
        self.status = 200
        self.paths: list[str] = []
        self._told: list[ToldSpan] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        self.paths.append(path)
        if self.status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                about = {entry.key: _plain(entry.value) for entry in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._told += [_told(str(about["service.name"]), span) for span in scope.spans]

    def spans(self) -> list[ToldSpan]:
        """Everything that has ended by now, in the order of beginnings."""
        telemetry.flush(PATIENCE_SECONDS)
        return sorted(self._told, key=lambda span: span.began)

    def only(self, name: str) -> ToldSpan:
        """The one span of that name."""
        (found,) = [span for span in self.spans() if span.name == name]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def collected(service: str = "test") -> Iterator[Collector]:
    """This process's spans go to a collector, for as long as the block lasts."""
    collector = Collector()
    telemetry.configure(Settings(otlp_endpoint=collector.url), service)
    try:
        yield collector
    finally:
        telemetry.configure(Settings(otlp_endpoint=None), service)
        collector.close()


def _told(service: str, span: Span) -> ToldSpan:
    return ToldSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        facts={entry.key: _plain(entry.value) for entry in span.attributes},
    )


def _plain(value: AnyValue) -> str | int | float | bool:
    found = getattr(value, value.WhichOneof("value") or "string_value")
    assert isinstance(found, str | int | float | bool)
    return found
