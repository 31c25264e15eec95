"""Identity of a health row, so that one that is sent twice is stored once."""

from typing import Final
from uuid import UUID, uuid5

_NAMESPACE: Final = UUID("6f0b5a3e-6c0c-5d53-9d1c-2b8f6a1d7e90")


def sample_id(uid: str, probe: str, slot: str) -> str:
    """The id of what one probe of one object said in one period, or at one change."""
    return str(uuid5(_NAMESPACE, f"{uid}/{probe}/{slot}"))
