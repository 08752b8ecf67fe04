"""Reads a job's event stream."""

from craft.contracts.public.jobs import EventView
from craft_client.encoding import parsed


class EventReader:
    """Parses the events of a text/event-stream, line by line. It ignores pings and all fields but `data`."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: str) -> EventView | None:
        """The event that this line completes; None if it completes none."""
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            data, self._data = "\n".join(self._data), []
            return parsed(EventView, data.encode())
        return None
