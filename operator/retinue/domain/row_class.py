"""How much a row of history matters: what is given up first when neither Postgres nor the disk can take it."""

from enum import IntEnum

from retinue.domain.records import DeploymentHealth, Row


class RowClass(IntEnum):
    """Order of sacrifice, lowest first: a row may only push out rows of its own class or of a lower one."""

    RAW = 0
    """One look or one request; the next one says nearly the same."""
    SUMMARY = 1
    """One row per deployment and minute; all that is left when raw rows had to go."""
    TRANSITION = 2
    """A state change: it is never said again."""

    @property
    def label(self) -> str:
        """Name in counters and file names."""
        return self.name.lower()


def class_of(row: Row, *, transition: bool) -> RowClass:
    """The class of a row; only its maker knows whether it marks a state change."""
    if transition:
        return RowClass.TRANSITION
    return RowClass.SUMMARY if isinstance(row, DeploymentHealth) else RowClass.RAW
