"""Read a job's event stream."""

from collections.abc import Iterable, Iterator

from craft.contracts.views import EventView


def read_events(lines: Iterable[str]) -> Iterator[EventView]:
    """Events of a text/event-stream; comments (pings) and other fields than `data` are passed over."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield EventView.model_validate_json("\n".join(data))
            data.clear()
