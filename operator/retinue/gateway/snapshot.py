"""The route snapshot on disk: replaced as a whole, so that a crash leaves the old one."""

import os
from pathlib import Path

from retinue.domain.route_snapshot import SnapshotDamaged, read_snapshot
from retinue.domain.routing import RouteObjects


class SnapshotFile:
    """One file that only this process writes. Calls block; the gateway makes them outside of its event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: bytes | None = None

    def load(self) -> RouteObjects | None:
        """What the last process left, None if it left nothing. Raises SnapshotDamaged, OSError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        objects = read_snapshot(data)
        self._written = data
        return objects

    def save(self, data: bytes) -> bool:
        """Write the content; False if it is there already. Raises OSError."""
        if data == self._written:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._written = data
        return True


__all__ = ["SnapshotDamaged", "SnapshotFile"]
