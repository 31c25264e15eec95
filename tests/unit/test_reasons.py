"""Every reason of a condition or an Event is a constant with a text; domain/ writes none as a literal."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import retinue
import retinue.domain
from generate.conditions import constants
from retinue.agent.decide import Phase
from retinue.ollama.errors import OllamaError
from retinue.resources import reasons

pytestmark = pytest.mark.unit

PACKAGE = Path(retinue.__file__).parent
REASON_FIRST = ("Problem", "Violation", "NotServable", "RevisionCheck", "ready", "working", "stalled", "paused")
"""Calls of domain/ whose first argument is a reason."""
OTHER_MEANINGS = {
    "routing.py": "states of a route, which are API of the gateway's errors",
    "health.py": "the phase of a pod, as Kubernetes writes it",
    "model_pods.py": "phases of an agent, and reasons of the kubelet",
}
"""Files of domain/ in which a word that is a reason elsewhere may stand for something else."""


def domain_files() -> list[Path]:
    return sorted((PACKAGE / "domain").rglob("*.py"))


def reason_arguments(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        position = {"Finding": 2, "Event": 1, **dict.fromkeys(REASON_FIRST, 0)}.get(node.func.id)
        if position is not None:
            yield from node.args[position : position + 1]
            yield from (k.value for k in node.keywords if k.arg == "reason")


def values_of(argument: ast.expr) -> list[ast.expr]:
    """What the argument can become: the branches of `a if b else c` and `a or b`, not the question."""
    if isinstance(argument, ast.IfExp):
        return values_of(argument.body) + values_of(argument.orelse)
    if isinstance(argument, ast.BoolOp):
        return [value for part in argument.values for value in values_of(part)]
    return [argument]


def docstrings(tree: ast.AST) -> set[int]:
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


@pytest.mark.parametrize("path", domain_files(), ids=lambda p: p.name)
def test_domain_gives_no_reason_as_a_literal(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    literal = [
        f"line {part.lineno}: {ast.unparse(part)}"
        for argument in reason_arguments(tree)
        for part in values_of(argument)
        if isinstance(part, ast.JoinedStr | ast.Constant)
    ]
    assert not literal, "use a constant of retinue.resources.reasons"


@pytest.mark.parametrize("path", domain_files(), ids=lambda p: p.name)
def test_domain_writes_the_word_of_a_reason_only_for_something_else(path: Path) -> None:
    if path.name in OTHER_MEANINGS:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {c.value for c in constants()}
    told = docstrings(tree)
    found = [
        f"line {n.lineno}: {n.value}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and n.value in words and id(n) not in told
    ]
    assert not found, "use the constant of retinue.resources.reasons"


def test_every_constant_has_its_own_word_a_meaning_and_what_to_do() -> None:
    found = constants()
    assert len({c.value for c in found}) == len(found)
    for c in found:
        assert c.value == "".join(part.capitalize() for part in c.name.split("_")), c.name
        assert c.meaning.endswith("."), c.name
        assert c.action.endswith("."), c.name
        assert getattr(reasons, c.name) == c.value


def test_what_agents_and_ollama_report_is_a_reason_too() -> None:
    for module in pkgutil.walk_packages(retinue.__path__, "retinue."):
        if module.name.startswith(("retinue.agent", "retinue.ollama")):
            importlib.import_module(module.name)
    words = {c.value for c in constants()}
    assert {kind.reason for kind in _below(OllamaError)} <= words
    assert {phase.value for phase in Phase} - {"Ready"} <= words


def test_every_constant_is_used_or_reported() -> None:
    used = {
        node.id
        for path in PACKAGE.rglob("*.py")
        if path.name != "reasons.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    reported = {kind.reason for kind in _below(OllamaError)} | {phase.value for phase in Phase}
    assert [c.name for c in constants() if c.name not in used and c.value not in reported] == []


def _below(kind: type[OllamaError]) -> set[type[OllamaError]]:
    return {kind}.union(*(_below(k) for k in kind.__subclasses__()))
