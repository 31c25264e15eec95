"""What the testbed tells while it works: one plain line per step on stderr, and a moving one on a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line about a step. Goes to stderr, so that stdout stays usable in scripts."""
    console.print(Text.assemble(("▸ ", "bold"), text))


class Steps:
    """Counts done parts of one long step, for a bar on a terminal or a line every few seconds elsewhere."""

    def __init__(self, title: str, bar: Progress | None, every_seconds: float = 10.0) -> None:
        self._title = title
        self._bar = bar
        self._task = bar.add_task(title, total=None) if bar else None
        self._every = every_seconds
        self._said = time.monotonic()
        self._done = 0
        self._total: int | None = None

    def total(self, count: int) -> None:
        """How many parts there will be."""
        self._total = count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=count)

    def advance(self, note: str = "") -> None:
        """One more part is done."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._said > self._every:
            self._said = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            say(f"{self._title}: {self._done}{of} {note}".rstrip())


@contextmanager
def steps(title: str) -> Iterator[Steps]:
    """A progress bar where somebody looks at it (a terminal), plain lines in a log."""
    if not sys.stderr.isatty():
        say(title)
        yield Steps(title, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield Steps(title, bar)
    say(title)
