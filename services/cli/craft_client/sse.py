"""Read a job's event stream."""

from craft.contracts.public.jobs import EventView
from craft_client.answers import parsed


class EventReader:
    """Events of a text/event-stream, fed line by line; pings and other fields than `data` are passed over."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: str) -> EventView | None:
        """The event that this line completes, if it does."""
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            data, self._data = "\n".join(self._data), []
            return parsed(EventView, data.encode())
        return None
