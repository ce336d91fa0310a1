"""What has a descriptor and can be sent."""

from __future__ import annotations

from parmap._memory.transit import export_fd, import_fd


class Handle:
    """Travels as a descriptor, as parmap's handles do."""

    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        return Handle.arrive, (export_fd(self.fd, "Handle"),)

    @staticmethod
    def arrive(ticket):
        return Handle(import_fd(ticket))
