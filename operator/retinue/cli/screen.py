"""How things look in a terminal: one small vocabulary of icons, colours only where they help."""

import locale
import os
import sys
from typing import Any, Final

from rich.console import Console

from retinue.resources.reasons import ASSISTANT_ARCHIVED, ASSISTANT_INACTIVE

ICONS: Final = {
    "ok": ("✔", "+", "green"),
    "working": ("◌", "~", "yellow"),
    "bad": ("✖", "x", "red"),
    "paused": ("॥", "=", "blue"),
    "unknown": ("?", "?", "white"),
    "pull": ("⇣", "v", "yellow"),
}
"""State to (icon, ASCII form for locales without UTF-8, colour)."""


PIPE_WIDTH: Final = 240
"""Columns of what goes into a file or a pipe, where nothing needs to be folded."""

PAUSES: Final = frozenset({ASSISTANT_INACTIVE, ASSISTANT_ARCHIVED})
"""Reasons of Ready under which nothing is awaited although it is not Ready; `Suspended` stands in the spec."""


def unicode_terminal() -> bool:
    """Whether icons and box lines can be shown."""
    encoding = getattr(sys.stdout, "encoding", None) or locale.getpreferredencoding(False)
    return "utf" in encoding.lower()


def console(*, stderr: bool = False) -> Console:
    """A console that honours NO_COLOR, pipes and narrow terminals."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal else PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, width=width, no_color="NO_COLOR" in os.environ)


def icon(state: str) -> str:
    """The icon of a state as rich markup."""
    sign, plain, colour = ICONS[state]
    return f"[{colour}]{sign if unicode_terminal() else plain}[/{colour}]"


def state_of(obj: dict[str, Any]) -> tuple[str, str]:
    """State and message of any retinue object, read from its conditions as kstatus does."""
    status = obj.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if status.get("observedGeneration") != obj.get("metadata", {}).get("generation"):
        return "working", "waiting for the operator"
    if (stalled := conditions.get("Stalled")) and stalled["status"] == "True":
        return "bad", f"{stalled['reason']}: {stalled['message']}"
    if obj.get("spec", {}).get("suspend"):
        return "paused", "suspended"
    if (reconciling := conditions.get("Reconciling")) and reconciling["status"] == "True":
        return "working", f"{reconciling['reason']}: {reconciling['message']}"
    ready = conditions.get("Ready")
    if ready is None:
        return "unknown", "no condition yet"
    if ready["status"] == "True":
        return "ok", ready["message"] or ready["reason"]
    if ready["reason"] in PAUSES:
        return "paused", ready["message"]
    return ("bad" if ready["status"] == "False" else "working"), f"{ready['reason']}: {ready['message']}"


def age(timestamp: str | None, now: float) -> str:
    """Seconds since an RFC 3339 time as people read them: 42s, 7m, 3h, 12d."""
    if not timestamp:
        return "-"
    from datetime import datetime

    seconds = max(0, int(now - datetime.fromisoformat(timestamp).timestamp()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines with aligned columns, never broken, as kubectl prints them: good for scripts and people."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
