"""Exit codes of the command line and the errors that carry them; scripts and CI match on these numbers."""

from typing import Final

OK: Final = 0
"""Done, healthy, no difference."""
FALSE: Final = 1
"""The asked-for condition is false: unhealthy, not ready, a check failed."""
USAGE: Final = 2
"""The command line or a file given on it is wrong."""
REFUSED: Final = 3
"""The cluster refused: RBAC, admission."""
NOT_FOUND: Final = 4
CONFLICT: Final = 5
"""Changed meanwhile."""
TIMED_OUT: Final = 124


class CommandError(Exception):
    """Ends a command with a message for people and an exit code for scripts."""

    def __init__(self, message: str, code: int = FALSE) -> None:
        super().__init__(message)
        self.code = code
