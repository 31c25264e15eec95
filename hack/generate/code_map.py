"""docs/map.md: which file holds which concept, from the first sentence of every module.

So the map is right as long as each module says in one sentence what it is for.
"""

import ast
from pathlib import Path
from typing import Final

from generate.files import HEADER, Files

OWNED: dict[str, str] = {}
PATH = "docs/map.md"
ROOT: Final = Path(__file__).resolve().parents[2]

_INTRO = """\
# Map: from a concept to its file

One line per concept; search this page for a word, open the file. The layers, each of which may import what follows it:
cli → operator_app, gateway, agent, setup → watch → reconcile → kube, store, ollama, outbound, observability → domain →
resources.
"""

_PACKAGES: Final = {
    "resources": "The kinds: the only source of the CRDs",
    "domain": "Decisions: pure, no I/O, the time is an argument",
    "kube": "The API server",
    "store": "Postgres: history of health and usage",
    "ollama": "Ollama, and the agents before it",
    "outbound": "Model registries",
    "observability": "Logs, metrics, probes",
    "reconcile": "Reconcilers: gather, decide, act",
    "watch": "Watching with kopf",
    "operator_app": "The operator process",
    "gateway": "The gateway process",
    "agent": "The agent process",
    "setup": "The setup Job",
    "cli": "The command line",
}
"""Packages of operator/retinue from the bottom to the top; a new one has to be put in its place here."""

_TESTS: Final = {
    "tests/unit/": "Pure code by tables, and small parts by themselves",
    "tests/contract/": "Our parts before real Ollama, Postgres, model registry; generated files; documents",
    "tests/api/": "Kinds, operator and gateway on a real API server, with faults in between",
    "tests/node/": "Real pods on a real node: the cluster itself, images, models in trouble",
    "tests/chart/": "The chart as text, and installed, upgraded, uninstalled on a real node",
}
"""Folder of a test group to what it shows."""

_OTHER: Final = {
    "charts/retinue/values.yaml": "Every setting of the platform team",
    "charts/retinue/values.schema.json": "What a setting may be",
    "charts/retinue/templates/": "What the chart installs, one file per part",
    "crds/": "The generated CRDs",
    "examples/": "Manifests that work as they are",
    "Dockerfile": "The one image of all roles",
    "pyproject.toml": "Dependencies, layers, lint and type rules",
    ".ci/run": "What CI runs",
}
"""Files that are no modules."""


def files() -> Files:
    """The one page. Raises ValueError for a module without a docstring, or a package that is not in order here."""
    lines = [f"<!-- {HEADER} -->", "", _INTRO]
    source = ROOT / "operator" / "retinue"
    present = {p.parent.name for p in source.glob("*/__init__.py")}
    if present != set(_PACKAGES):
        raise ValueError(
            f"hack/generate/code_map.py: _PACKAGES and operator/retinue differ: {present ^ set(_PACKAGES)}"
        )
    for package, title in _PACKAGES.items():
        lines += [f"## {title} (`operator/retinue/{package}/`)", "", *_modules(source / package), ""]
    lines += ["## The process itself (`operator/retinue/`)", "", *(_line(p) for p in sorted(source.glob("*.py"))), ""]
    for folder, title in (("generate", "Generated files"), ("testbed", "The test cluster and everything beside it")):
        lines += [f"## {title} (`hack/{folder}/`)", "", *_modules(ROOT / "hack" / folder), ""]
    scripts = sorted(p for p in (ROOT / "hack").iterdir() if p.is_file() and not p.suffix)
    lines += ["## Commands (`hack/`)", "", *(_line(p) for p in scripts), ""]
    lines += ["## Tests", "", *(f"- {text}: `{path}`" for path, text in _TESTS.items())]
    lines += [*(_line(p) for p in sorted((ROOT / "tests").glob("*.py"))), ""]
    lines += ["## Chart and other files", "", *(f"- {text}: `{path}`" for path, text in _OTHER.items()), ""]
    return {PATH: "\n".join(lines)}


def _modules(folder: Path) -> list[str]:
    """Every module of a package; an `__init__` that holds nothing but its docstring is its heading."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.name != "__init__.py" or len(body) > 1 or path.parent != folder:
            found.append(_line(path))
    return found


def _line(path: Path) -> str:
    name = path.relative_to(ROOT)
    return f"- {_concept(path, str(name)).removesuffix('.')}: `{name}`"


def _concept(path: Path, name: str) -> str:
    """First line of the module's docstring, or of a script's comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        told = ast.get_docstring(ast.parse(text)) or ""
    else:
        told = next(
            (line[2:] for line in text.splitlines()[1:] if line.startswith("# ") and "shellcheck" not in line), ""
        )
    if not told:
        raise ValueError(f"{name}: say in the first line what it is for; docs/map.md is made from it")
    return told.splitlines()[0]
