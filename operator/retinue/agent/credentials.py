"""Who may pass: bearer tokens by their SHA-256, from a mounted file that may change under us."""

import hashlib
import hmac
import string
import time
from pathlib import Path
from typing import Final

RECHECK_SECONDS: Final = 1.0
"""How old the knowledge of the file may be; also how long a rotation takes to arrive here."""

_HEX: Final = frozenset(string.hexdigits)


class CredentialFile:
    """Answers whether a request carries an accepted token. Without a readable file nobody is accepted."""

    def __init__(self, path: str) -> None:
        """`path` may not exist yet."""
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._checked = float("-inf")
        self._hashes: tuple[bytes, ...] = ()

    def accepts(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header is `Bearer <token>` with a listed token."""
        self._refresh()
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            return False
        digest = hashlib.sha256(token.strip()).hexdigest().encode()
        found = False
        # Every line is compared, so the time tells nothing about which one matched.
        for line in self._hashes:
            found |= hmac.compare_digest(digest, line)
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked < RECHECK_SECONDS:
            return
        self._checked = now
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            lines = self._path.read_text("ascii").split()
        except (OSError, UnicodeDecodeError):
            self._seen, self._hashes = None, ()
            return
        self._seen = seen
        self._hashes = tuple(line.lower().encode() for line in lines if len(line) == 64 and _HEX.issuperset(line))
