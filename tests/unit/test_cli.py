"""What the command line prints and which exit codes it gives, as far as no cluster is needed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from retinue.cli import main, status
from retinue.cli.cluster import Access
from retinue.cli.exits import CommandError
from retinue.cli.gateway_access import gateway_url, names_of
from retinue.cli.get import at_path, resource_of
from retinue.cli.main import app
from retinue.cli.screen import age, state_of
from testbed import binaries

pytestmark = pytest.mark.unit
runner = CliRunner()
DIGEST = "sha256:" + "ab" * 32


def obj(conditions: dict[str, tuple[str, str, str]], *, observed: int = 1, **spec: Any) -> dict[str, Any]:
    listed = [{"type": t, "status": s, "reason": r, "message": m} for t, (s, r, m) in conditions.items()]
    return {
        "metadata": {"name": "x", "namespace": "bots", "generation": 1},
        "spec": spec,
        "status": {"observedGeneration": observed, "conditions": listed},
    }


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (obj({"Ready": ("True", "Serving", "r7")}), ("ok", "r7")),
        (obj({"Ready": ("True", "Serving", "r7")}, observed=0), ("working", "waiting for the operator")),
        (obj({"Ready": ("Unknown", "Pulling", "40%")}), ("working", "Pulling: 40%")),
        (obj({"Ready": ("False", "X", ""), "Stalled": ("True", "TagMoved", "pin it")}), ("bad", "TagMoved: pin it")),
        (obj({"Ready": ("Unknown", "Suspended", "")}, suspend=True), ("paused", "suspended")),
        (obj({"Ready": ("Unknown", "AssistantInactive", "it rests")}), ("paused", "it rests")),
        (
            {"metadata": {"generation": 1}, "spec": {}, "status": {"observedGeneration": -1}},
            ("working", "waiting for the operator"),
        ),
    ],
)
def test_the_state_shown_is_the_one_kstatus_computes(given: dict[str, Any], want: tuple[str, str]) -> None:
    assert state_of(given) == want


def test_ages_are_short() -> None:
    assert [age("1970-01-01T00:00:00Z", s) for s in (42, 420, 10_800, 1_036_800)] == ["42s", "7m", "3h", "12d"]


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("ast", "assistants"),
        ("assistant", "assistants"),
        ("deployments", "assistantdeployments"),
        ("astdep", "assistantdeployments"),
        ("template", "assistanttemplates"),
        ("ms", "modelservers"),
        ("ModelServer", "modelservers"),
    ],
)
def test_a_kind_is_found_by_every_name_people_use(name: str, plural: str) -> None:
    assert resource_of(name).plural == plural


def test_an_unknown_kind_is_a_usage_error_that_lists_the_known_ones() -> None:
    with pytest.raises(CommandError, match="assistants, templates") as caught:
        resource_of("pods")
    assert caught.value.code == 2


def test_columns_read_conditions_by_type() -> None:
    given = obj({"Ready": ("True", "Serving", "r7")})
    assert at_path(given, '.status.conditions[?(@.type=="Ready")].message') == "r7"
    assert at_path(given, ".status.nothing.here") is None


def test_version_without_a_cluster() -> None:
    result = runner.invoke(app, ["version", "--client"])
    assert result.exit_code == 0
    assert result.stdout.startswith("retinue")


def test_help_of_every_command_shows_an_example() -> None:
    for command in ("status", "get", "chat", "version", "revision build", "templates install", "templates list"):
        result = runner.invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0
        assert "Example" in result.stdout, command


def assistant_file(folder: Path, **spec: Any) -> Path:
    body = {
        "apiVersion": "retinue.dev/v1alpha1",
        "kind": "Assistant",
        "metadata": {"name": "helper", "namespace": "bots"},
        "spec": {"model": {"name": "smollm2:135m", "digest": DIGEST}, **spec},
    }
    file = folder / "assistant.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def test_a_revision_built_offline_is_named_by_its_content(tmp_path: Path) -> None:
    file = assistant_file(tmp_path, systemPrompt={"inline": "Be kind."})
    name = runner.invoke(app, ["revision", "build", "-f", str(file), "-o", "name"])
    whole = yaml.safe_load(runner.invoke(app, ["revision", "build", "-f", str(file)]).stdout)
    assert name.exit_code == 0
    assert name.stdout.strip() == whole["metadata"]["name"]
    assert whole["spec"]["snapshot"]["prompts"][0]["text"] == "Be kind."
    assert "retinue.dev/made-by" not in whole["metadata"]["labels"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": {"name": "smollm2:135m"}}, "spec.model.digest"),
        ({"templateRef": {"name": "gone"}}, "AssistantTemplate gone"),
    ],
)
def test_what_an_offline_build_lacks_is_named(tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    result = runner.invoke(app, ["revision", "build", "-f", str(assistant_file(tmp_path, **spec))])
    assert isinstance(result.exception, CommandError)
    assert message in str(result.exception)
    assert result.exception.code == 2


def test_the_tree_shows_the_candidate_and_its_pull() -> None:
    deployment = obj({"Ready": ("Unknown", "Pulling", "")}, assistant="helper")
    deployment["status"] |= {
        "environment": "development",
        "modelServer": "old",
        "candidate": {"revision": "helper-1", "modelServer": "new"},
    }
    server = obj({"Ready": ("Unknown", "Pulling", "")}, model={"name": "gemma3:270m"}, profile="small-cpu")
    server["metadata"]["name"] = "new"
    server["status"] |= {"pull": {"completedBytes": 50_000_000, "totalBytes": 100_000_000}, "pods": [{"name": "new-0"}]}
    fleet = status.Fleet([], [deployment], {"new": server})
    from rich.console import Console

    screen = Console(width=200, record=True)
    screen.print(status.draw(fleet))
    text = screen.export_text()
    assert "ModelServer new" in text
    assert "(coming)" in text
    assert "50%" in text
    assert "Pod new-0" in text


@pytest.mark.parametrize(
    ("newest", "active", "servers", "known", "want"),
    [
        ("helper-2", "helper-2", ["old"], True, ("ok", "r7")),
        ("helper-2", "helper-1", ["old"], True, ("working", "waiting for the operator to roll out helper-2")),
        ("helper-2", "helper-2", [], True, ("working", "waiting for the operator to make ModelServer old")),
        ("helper-2", "helper-2", [], False, ("ok", "r7")),
    ],
)
def test_a_ready_deployment_of_which_something_else_was_asked_is_waited_for(
    newest: str, active: str, servers: list[str], known: bool, want: tuple[str, str]
) -> None:
    assistant, deployment = obj({}), obj({"Ready": ("True", "Serving", "r7")}, assistant="x", source={"latest": {}})
    assistant["status"]["latestRevision"] = newest
    deployment["status"] |= {"activeRevision": active, "modelServer": "old"}
    fleet = status.Fleet([assistant], [deployment], {name: obj({}) for name in servers}, servers_known=known)
    assert status.deployment_state(fleet, deployment) == want


def test_objects_print_as_json_that_kubectl_takes_back(capsys: pytest.CaptureFixture[str]) -> None:
    from retinue.cli.get import _print

    _print(resource_of("ast"), [obj({})], "json", show_namespace=False, single=True, now=0)
    assert json.loads(capsys.readouterr().out)["kind"] == "Assistant"


def test_an_error_is_shown_with_its_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise CommandError("write [host/][namespace/]model[:tag], not [/x]", 4)

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 4
    assert capsys.readouterr().err == "error: write [host/][namespace/]model[:tag], not [/x]\n"


@pytest.mark.parametrize(
    ("release", "names"),
    [
        ("retinue", "retinue"),
        ("my-retinue", "my-retinue"),
        ("prod", "prod-retinue"),
        ("a" * 39 + "-bcd", "a" * 39),
    ],
)
def test_a_release_is_found_under_the_names_that_the_chart_gives(release: str, names: str) -> None:
    assert names_of(release) == names


def test_an_address_in_an_error_of_kubectl_is_not_taken_for_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(binaries.ensure("kubectl").parent), prepend=os.pathsep)
    config = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": ""}}
    config.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "c"}))
    access = Access(f"{tmp_path / 'absent'}:{config}", None, None)
    with pytest.raises(CommandError, match="cannot reach the gateway"), gateway_url(access, None, "retinue", "r"):
        pytest.fail("there is no gateway")
