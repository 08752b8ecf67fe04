"""Runs an application behind a server whose connections are bounded in number and in time."""

import resource
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from craft.infra.http.server.connections import Closing, Patience, Places, WatchedConnection
from craft.infra.settings.listen import Listen
from craft.infra.settings.settings import Settings

_SERVER_OPTIONS: Mapping[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
}
"""Options of uvicorn."""
_SPARE_DESCRIPTORS = 128
"""For files, the database and other services."""


def server_options(places: Places, patience: Patience | None = None) -> dict[str, Any]:
    """Options of uvicorn for connections with a place in `places`."""
    # Not httptools: with it uvicorn accepts endless headers, and takes the body of a request that offers an upgrade
    # (curl --http2 and Java's client send these) for the next request.
    http = partial(WatchedConnection, places=places, patience=patience or Patience())
    return {**_SERVER_OPTIONS, "http": http}


def serve(app: FastAPI, listen: Listen, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Open streams are cut after the grace period of the settings."""
    most = min(listen.max_connections, max_connections(raise_descriptor_limit()))
    places = Places(most=most, most_per_peer=min(most, listen.max_connections_per_peer))
    registry: CollectorRegistry = app.state.metrics
    registry.register(ConnectionMetrics(places))
    uvicorn.run(
        app,
        host=listen.host,
        port=listen.port,
        # By default uvicorn goes on without what an application does beside its requests, where that cannot begin.
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.worker.grace_seconds)),
        **server_options(places),
    )


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files as far as it may be raised, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def max_connections(descriptors: int) -> int:
    """The most connections with a limit of so many open files."""
    return max(descriptors - _SPARE_DESCRIPTORS, descriptors // 2)


class ConnectionMetrics(Collector):
    """The connections of a server as metrics."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield GaugeMetricFamily("craft_http_connections", "Open connections.", value=self._places.taken)
        closed = CounterMetricFamily(
            "craft_http_connections_closed", "Connections that the server closed.", labels=["reason"]
        )
        for reason in Closing:
            closed.add_metric([reason.value], self._places.closed[reason])
        yield closed
