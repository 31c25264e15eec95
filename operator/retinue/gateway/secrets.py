"""Secrets from mounted files: read again when they change, compared in constant time, never shown."""

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

RECHECK_SECONDS: Final = 1.0
"""How old an answer of the file system may be; bounds the cost per request."""


class SecretFile:
    """The non-empty lines of a file. Kubernetes swaps mounted Secrets by symlink, which a changed stat shows.

    A file that cannot be read later on keeps its last content: a mount that blinks must not lock everybody out.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked = clock()
        self._stamp: tuple[int, int, int] | None = None
        self._lines: tuple[bytes, ...] = ()
        self._version = 0
        self._read()

    def __repr__(self) -> str:
        return f"SecretFile({str(self._path)!r})"

    @property
    def version(self) -> int:
        """Rises with each new content."""
        self._refresh()
        return self._version

    def lines(self) -> tuple[bytes, ...]:
        """The current content; stale by a second at most."""
        self._refresh()
        return self._lines

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._checked < RECHECK_SECONDS:
            return
        self._checked = now
        try:
            self._read()
        except OSError as error:
            structlog.get_logger(__name__).warning("secret_unreadable", path=str(self._path), error=error.strerror)

    def _read(self) -> None:
        stat = self._path.stat()
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if stamp == self._stamp:
            return
        self._lines = tuple(line.strip() for line in self._path.read_bytes().splitlines() if line.strip())
        self._stamp = stamp
        self._version += 1


class TokenCheck:
    """Whether an Authorization header carries one of the tokens of a file.

    A token is hashed before anything else sees it; all hashes are compared, whichever matches first.
    """

    def __init__(self, file: SecretFile) -> None:
        self._file = file
        self._version = -1
        self._digests: tuple[bytes, ...] = ()

    def allows(self, authorization: bytes | None) -> bool:
        """True if the header holds a token that is valid now."""
        if self._version != self._file.version:
            self._digests = tuple(hashlib.sha256(line).digest() for line in self._file.lines())
            self._version = self._file.version
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return False
        digest = hashlib.sha256(authorization[7:].strip()).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found
