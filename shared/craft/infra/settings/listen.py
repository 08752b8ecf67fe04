"""The address of an HTTP server."""

from pydantic import BaseModel


class Listen(BaseModel):
    """The address on which an HTTP server listens; loopback by default."""

    host: str = "127.0.0.1"
    port: int

    @property
    def url(self) -> str:
        """The base URL for callers on the same machine."""
        return f"http://{self.host}:{self.port}"
