"""The test command: groups of tests with a time budget each, and one summary that CI and people read."""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
console = Console(highlight=False)
app = typer.Typer(add_completion=False)

BUDGET_SECONDS = {"lint": 120, "unit": 60, "contract": 480, "api": 600, "node": 1200, "chart": 900, "long": 7200}
"""What a group may take warm on two cores; shown beside what it took, never asserted."""
ALL = ("lint", "unit", "contract", "api", "node", "chart")

LINT: dict[str, list[str]] = {
    "ruff": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import-linter": ["lint-imports"],
    "shellcheck": ["shellcheck", "-x"],
    "generated files": ["./hack/gen", "--check"],
    "file lengths": [sys.executable, "-m", "testbed.lengths"],
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one group did."""

    group: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    skips: tuple[str, ...] = ()
    cases: tuple[tuple[str, str], ...] = ()
    """Name and result of each test."""

    @property
    def ok(self) -> bool:
        """Something ran, nothing failed; a skip is a failure where everything can be had (root)."""
        return self.failed == 0 and self.passed > 0 and (os.geteuid() != 0 or self.skipped == 0)


@app.command()
def main(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help="lint, unit, contract, api, node, chart, all (default) or long; several are fine."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Run the other groups after a failure.")
    ] = True,
    only: Annotated[str, typer.Option(help="Only tests whose name matches, as pytest -k.", show_default=False)] = "",
) -> None:
    """Install what the tests need and run them.

    Examples: ./hack/test unit; ./hack/test lint api; ./hack/test node --only pull
    """
    wanted: list[str] = []
    for group in groups or ["all"]:
        if group != "all" and group not in BUDGET_SECONDS:
            console.print(f"unknown group {group!r}: use {', '.join([*BUDGET_SECONDS, 'all'])}")
            raise typer.Exit(2)
        wanted += [g for g in (ALL if group == "all" else (group,)) if g not in wanted]
    console.print("Groups and their time budgets: " + ", ".join(f"{g} {BUDGET_SECONDS[g]} s" for g in wanted))
    outcomes: list[Outcome] = []
    for group in wanted:
        console.rule(f"{group}")
        outcomes.append(_lint() if group == "lint" else _pytest(group, only))
        if not outcomes[-1].ok and not keep_going:
            break
    _summary(outcomes)
    for outcome in outcomes:
        if outcome.group == "long" and not only:
            _evidence(outcome)
    if not all(o.ok for o in outcomes):
        raise typer.Exit(1)


def _lint() -> Outcome:
    began = time.monotonic()
    passed = failed = 0
    for name, command in LINT.items():
        arguments = [*command, *_shell_scripts()] if name == "shellcheck" else command
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            passed += 1
            console.print(f"[green]✔[/green] {name}")
        else:
            failed += 1
            console.print(f"[red]✖[/red] {name}")
            console.print((done.stdout + done.stderr)[-8000:], markup=False)
    return Outcome("lint", passed, failed, 0, time.monotonic() - began)


def _shell_scripts() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    scripts = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 200_000 and path.suffix in ("", ".sh"):
            with path.open("rb") as file:
                if b"bash" in file.readline() or path.suffix == ".sh":
                    scripts.append(name)
    return scripts


def _pytest(group: str, only: str) -> Outcome:
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            _expression(group),
            f"--junitxml={report}",
            "--durations=5",
            "-q",
        ]
        if only:
            command += ["-k", only]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        outcome = _count(group, report, time.monotonic() - began)
    if code not in (0, 1) and outcome.failed == 0:
        return Outcome(group, outcome.passed, 1, outcome.skipped, outcome.seconds, outcome.skips)
    return outcome


def _evidence(outcome: Outcome) -> None:
    """Keep what the last long run showed beside the documents that rest on it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [
        "# The last run of ./hack/test long",
        "",
        "Written by the command itself. What it holds: tests marked `long`, too many or too slow for CI.",
        "",
        f"- commit: {commit.stdout.strip()}{' with uncommitted changes' if changed.stdout.strip() else ''}",
        "- seed: none, every case is enumerated",
        f"- machine: {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        f"- {outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped in {outcome.seconds:.0f} s",
        "",
        "| Test | Result |",
        "|---|---|",
        *(f"| {name} | {result} |" for name, result in outcome.cases),
        "",
    ]
    target = ROOT / "docs" / "evidence" / "long.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines))
    console.print(f"report: {target.relative_to(ROOT)}")


def _expression(group: str) -> str:
    return group if group == "long" else f"{group} and not long"


def _count(group: str, report: Path, seconds: float) -> Outcome:
    if not report.exists():
        return Outcome(group, 0, 1, 0, seconds)
    total = failed = skipped = 0
    skips: list[str] = []
    cases: list[tuple[str, str]] = []
    for suite in ET.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
        skips += [
            f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}"
            for case in suite.iter("testcase")
            if (skip := case.find("skipped")) is not None
        ]
        cases += [(f"{case.get('name')}", _result(case)) for case in suite.iter("testcase")]
    return Outcome(group, max(0, total - failed - skipped), failed, skipped, seconds, tuple(skips), tuple(cases))


def _result(case: ET.Element) -> str:
    wrong = next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), None)
    return wrong or f"passed in {float(case.get('time', '0')):.0f} s"


def _summary(outcomes: list[Outcome]) -> None:
    console.rule("summary")
    table = Table(box=None)
    for heading in ("group", "passed", "failed", "skipped", "seconds", "budget"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for o in outcomes:
        mark = "[green]✔[/green]" if o.ok else "[red]✖[/red]"
        table.add_row(
            f"{mark} {o.group}",
            str(o.passed),
            str(o.failed),
            str(o.skipped),
            f"{o.seconds:.0f}",
            str(BUDGET_SECONDS[o.group]),
        )
    console.print(table)
    for o in outcomes:
        for skip in o.skips:
            console.print(f"skipped in {o.group}: {skip}", markup=False)
    if os.geteuid() != 0:
        console.print("Not root: what needs the node was skipped; on a root machine a skip fails the run.")
    print(f"{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed")


if __name__ == "__main__":
    app()
