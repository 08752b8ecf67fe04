"""The address of an HTTP server."""

from pydantic import BaseModel


class Listen(BaseModel):
    """Where an HTTP server listens. Loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: int

    @property
    def url(self) -> str:
        """Base URL for callers on the same machine."""
        return f"http://{self.host}:{self.port}"
