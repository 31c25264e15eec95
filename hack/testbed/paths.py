"""Where the testbed keeps things: all below one cache folder of the user, never in the checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def cache_dir() -> Path:
    """$RETINUE_CACHE, else the user's cache folder."""
    named = os.environ.get("RETINUE_CACHE")
    if named:
        return Path(named).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").resolve() / "retinue"


def bin_dir(tool: str, version: str) -> Path:
    """Folder of one built binary; the version is in the name, so two checkouts with other versions do not collide."""
    return cache_dir() / "bin" / f"{tool}-{version}"


def clusters_dir() -> Path:
    """One folder per cluster lies in here."""
    return cache_dir() / "clusters"
