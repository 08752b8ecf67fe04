"""The result of a device's self-test."""

from craft.contracts.base import Contract


class DeviceReport(Contract):
    """The device that a process was shown, with the versions under it. `failure` says what is wrong; None: nothing."""

    name: str = "?"
    devices: int = 0
    driver: str | None = None
    cuda: str | None = None
    torch: str = ""
    free_bytes: int = 0
    total_bytes: int = 0
    failure: str | None = None

    @property
    def title(self) -> str:
        """The device's name and memory, such as "NVIDIA H200, 139 GiB"."""
        return f"{self.name}, {self.total_bytes / 2**30:.0f} GiB" if self.total_bytes else self.name
