"""placeholder"""

from pathlib import Path


def clear(folder: Path) -> None: ...
