"""docs/map.md leads to every module of retinue, once, and to nothing that does not exist."""

import re
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^- .*: `([^`]+)`$", TEXT, flags=re.MULTILINE)


def test_every_path_that_is_named_exists() -> None:
    assert [path for path in LISTED if not (ROOT / path).exists()] == []


def test_every_module_is_listed_once_or_is_the_package_of_a_heading() -> None:
    modules = {
        str(p.relative_to(ROOT)) for folder in ("operator/retinue", "hack") for p in (ROOT / folder).rglob("*.py")
    }
    headings = {f"{folder}__init__.py" for folder in re.findall(r"^## .* \(`([^`]+)`\)$", TEXT, flags=re.MULTILINE)}
    assert sorted(modules - set(LISTED) - headings) == []
    assert [path for path, count in Counter(LISTED).items() if count > 1] == []


def test_every_test_group_and_every_part_of_the_tests_is_listed() -> None:
    groups = {f"tests/{p.name}/" for p in (ROOT / "tests").iterdir() if p.is_dir() and any(p.glob("test_*.py"))}
    parts = {f"tests/{p.name}" for p in (ROOT / "tests").glob("*.py")}
    assert groups | parts <= set(LISTED)
