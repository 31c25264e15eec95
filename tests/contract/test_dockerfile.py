"""The Dockerfile keeps its promises: no network, not root, nothing of a working copy in the image."""

import re
from pathlib import Path

import pytest

from testbed import versions
from testbed.images import image_tag

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "hack" / "testbed" / "images"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments of each step, continuation lines joined, comments gone."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(word.upper(), " ".join(rest.split())) for word, rest in steps]


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    return instructions(ROOT / "Dockerfile")


def test_no_step_uses_the_network(steps: list[tuple[str, str]]) -> None:
    installs = [part for word, rest in steps if word == "RUN" for part in rest.split("&&") if "pip --python" in part]
    assert installs
    assert all("--no-index" in part for part in installs)
    forbidden = re.compile(r"\b(apt|apt-get|curl|wget|git|npm|https?:)\b")
    assert not [rest for word, rest in steps if word in ("RUN", "ADD") and forbidden.search(rest)]


def test_locked_wheels_are_installed_by_their_hashes(steps: list[tuple[str, str]]) -> None:
    assert any("--require-hashes" in rest and "requirements.lock" in rest for word, rest in steps if word == "RUN")


def test_every_stage_stands_on_the_same_base(steps: list[tuple[str, str]]) -> None:
    assert ("ARG", f"BASE={versions.load()['images']['base']}") in steps
    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert set(bases) == {"${BASE}", "locked"}
    assert bases[-1] == "${BASE}"


def test_it_runs_as_a_number_that_is_not_root(steps: list[tuple[str, str]]) -> None:
    assert [rest for word, rest in steps if word == "USER"] == ["10001:10001"]
    assert steps[-2:] == [("ENTRYPOINT", '["retinue"]'), ("CMD", '["--help"]')]


def test_only_wheels_get_into_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["*", "!dist", "dist/*", "!dist/wheelhouse"]
    copied = [rest for word, rest in instructions(ROOT / "Dockerfile") if word == "COPY" and "--from" not in rest]
    assert all(rest.startswith("dist/wheelhouse/") for rest in copied)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ollama", [("EXPOSE", "11434"), ("ENTRYPOINT", '["/usr/bin/ollama"]'), ("CMD", '["serve"]')]),
        (
            "postgres",
            [
                ("VOLUME", "/var/lib/postgresql/data"),
                ("EXPOSE", "5432"),
                ("STOPSIGNAL", "SIGINT"),
                ("ENTRYPOINT", '["docker-entrypoint.sh"]'),
                ("CMD", '["postgres"]'),
            ],
        ),
    ],
)
def test_a_stand_in_has_the_contract_of_the_official_image(name: str, expected: list[tuple[str, str]]) -> None:
    found = instructions(STAND_INS / name / "Dockerfile")
    assert [step for step in found if step[0] not in ("FROM", "ADD", "COPY", "ENV")] == expected


def test_the_chart_names_the_images_that_are_built() -> None:
    values = (ROOT / "charts" / "retinue" / "values.yaml").read_text()
    for name in ("ollama", "postgres"):
        assert f"image: {image_tag(name)}\n" in values
