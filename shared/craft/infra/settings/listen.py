"""The address of an HTTP server."""

from pydantic import BaseModel, Field


class Listen(BaseModel):
    """The address on which an HTTP server listens; loopback by default."""

    host: str = "127.0.0.1"
    port: int
    max_connections: int = Field(4096, ge=1, description="Open connections; fewer where the process may open less.")
    max_connections_per_peer: int = Field(
        1024, ge=1, description="The same from one address: behind a proxy as many as `max_connections`."
    )

    @property
    def url(self) -> str:
        """The base URL for callers on the same machine."""
        return f"http://{self.host}:{self.port}"
