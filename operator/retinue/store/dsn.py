"""The connection string: read from a file each time a connection is made, shown to nobody."""

from pathlib import Path

from retinue.store.errors import Failure, StoreError


class DsnFile:
    """A file that holds `postgresql://user:password@host:5432/database`.

    A file and not a value, because a mounted Secret changes when its password is rotated: the next connection uses the
    new one, without a restart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"DsnFile({str(self.path)!r})"

    def read(self) -> str:
        """The string as it is now. Raises StoreError when there is none."""
        try:
            text = self.path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as cause:
            code = type(cause).__name__
        else:
            if text:
                return text
            code = "Empty"
        raise StoreError(Failure.REFUSED, code, f"no connection string in {self.path}: check the mounted Secret")
