"""The chart as text: values are checked, pods are restricted, rights are listed, what is off is absent."""

import json
from typing import Any

import pytest
import yaml

from rendering import CHART, ROOT, helm, of_kind, pod_specs, render

pytestmark = pytest.mark.chart

EXTERNAL = ("postgres.mode=external", "postgres.external.existingSecret=db")


def test_helm_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("unknown=1", "unknown"),
        ("operator.replica=1", "replica"),
        ("postgres.mode=sqlite", "mode"),
        ("profiles[0].slots=0", "slots"),
        ("profiles[0].podTemplate=x", "podTemplate"),
        ("modelRegistries[0].host=https://registry.example", "host"),
        ("externalServers[0].name=UPPER", "name"),
        ("health.probeSeconds=0", "probeSeconds"),
        ("operator.spoolSize=lots", "spoolSize"),
        ("defaultProfile=absent", "defaultProfile: absent is not one of profiles (small-cpu)"),
        ("modelRegistries[0].host=a.example", "modelRegistries: 0 entries have default: true"),
        ("namespaces={bots,default}", "namespaces: default is retinue's own"),
        ("namespaces={default-models}", "namespaces: default-models is retinue's own"),
        ("models.namespace=default", "models.namespace: default is the namespace of the release"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value: str, place: str) -> None:
    done = helm("template", "retinue", str(CHART), "--kube-version", "1.34.4", "--set", value)
    assert done.returncode != 0
    assert place in done.stderr


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(values: Any, schema: dict[str, Any], path: str) -> None:
        if not isinstance(values, dict) or "properties" not in schema:
            return
        known = set(schema["properties"]) - {"global", "claims"}
        assert set(values) <= known, f"{path}: not in values.schema.json"
        if path.count(".") < 2:
            assert known <= set(values), f"{path}: not in values.yaml: {known - set(values)}"
        for key, value in values.items():
            compare(value, schema["properties"][key], f"{path}.{key}")

    compare(values, schema, "")


@pytest.mark.parametrize("sets", [(), EXTERNAL, ("namespaces={bots,shop}", "presets.namespaces={bots}")])
def test_every_pod_is_restricted(sets: tuple[str, ...]) -> None:
    for name, spec in pod_specs(render(*sets)).items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        assert all(set(v) - {"name"} <= {"configMap", "secret", "emptyDir"} for v in spec["volumes"]), name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_no_role_has_a_wildcard_or_reads_foreign_secrets() -> None:
    objects = render("namespaces={bots}", "presets.namespaces={bots}") + render()
    roles = [o for o in objects if o["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], role["metadata"]["name"]
            if "secrets" in rule["resources"]:
                assert role["metadata"]["name"] == "retinue-setup"
                assert rule["verbs"] == ["create"] or rule.get("resourceNames"), rule
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            assert not {"pods/exec", "nodes/proxy", "serviceaccounts/token"} & set(rule["resources"])


def test_operator_rights_are_those_of_the_golden_list() -> None:
    rights: set[str] = set()
    for role in render():
        if role["kind"] in ("Role", "ClusterRole") and role["metadata"]["name"].endswith("retinue-operator"):
            scope = role["metadata"].get("namespace", "cluster")
            for rule in role["rules"]:
                for group in rule["apiGroups"]:
                    rights |= {f"{scope} {group or 'core'}/{r} {' '.join(rule['verbs'])}" for r in rule["resources"]}
    golden = (ROOT / "tests" / "chart" / "operator-rights.txt").read_text().splitlines()
    assert sorted(rights) == golden


def test_listed_namespaces_get_roles_and_no_cluster_wide_ones() -> None:
    objects = render("namespaces={bots,shop}")
    roles = of_kind(objects, "Role")
    assert {"bots/retinue-operator", "shop/retinue-operator", "bots/retinue-gateway", "shop/retinue-gateway"} <= set(
        roles
    )
    cluster = of_kind(objects, "ClusterRole")["/retinue-system-retinue-operator"]
    assert {r for rule in cluster["rules"] for r in rule["resources"]} == {"customresourcedefinitions", "nodes"}
    platform = yaml.safe_load(of_kind(objects, "ConfigMap")["retinue-system/retinue-platform"]["data"]["platform.yaml"])
    assert platform["namespaces"] == ["bots", "shop"]


def test_the_platform_file_is_what_the_roles_read() -> None:
    from retinue.resources.platform import PlatformConfig

    objects = render("externalServers[0].name=lab", "externalServers[0].url=http://10.0.0.5:11434")
    text = of_kind(objects, "ConfigMap")["retinue-system/retinue-platform"]["data"]["platform.yaml"]
    platform = PlatformConfig.model_validate(yaml.safe_load(text))
    assert platform.models_namespace == "retinue-system-models"
    assert platform.profiles[0].name == platform.default_profile == "small-cpu"
    assert platform.external_servers[0].name == "lab"


def test_an_external_database_brings_no_database_of_our_own() -> None:
    objects = render(*EXTERNAL)
    assert not of_kind(objects, "StatefulSet")
    volumes = {v["name"]: v for spec in pod_specs(objects).values() for v in spec["volumes"] if v["name"] == "postgres"}
    assert volumes["postgres"]["secret"]["secretName"] == "db"


def test_an_external_database_without_a_secret_is_refused() -> None:
    done = helm("template", "retinue", str(CHART), "--kube-version", "1.34.4", "--set", "postgres.mode=external")
    assert "postgres.external.existingSecret" in done.stderr


def test_crds_are_kept_unless_told_otherwise() -> None:
    kept = of_kind(render(), "CustomResourceDefinition")
    assert len(kept) == 5
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in kept.values())
    loose = of_kind(render("crds.keep=false"), "CustomResourceDefinition")
    assert all("helm.sh/resource-policy" not in c["metadata"].get("annotations", {}) for c in loose.values())
    assert not of_kind(render("crds.install=false"), "CustomResourceDefinition")


def test_a_changed_platform_rolls_operator_and_gateway() -> None:
    def stamps(*sets: str) -> set[str]:
        deployments = of_kind(render(*sets), "Deployment").values()
        return {d["spec"]["template"]["metadata"]["annotations"]["retinue.dev/platform"] for d in deployments}

    assert stamps() == stamps()
    assert stamps().isdisjoint(stamps("profiles[0].slots=4", "profiles[0].name=small-cpu", "profiles[0].image=o:1"))


def test_the_models_namespace_is_restricted() -> None:
    namespace = of_kind(render(), "Namespace")["/retinue-system-models"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert not of_kind(render("models.createNamespace=false"), "Namespace")


@pytest.mark.parametrize(
    "value", ["imagePullSecrets={mine}", "image.pullPolicy=Always", "image.tag=v9", "postgres.external.key=k"]
)
def test_a_setup_job_with_another_pod_has_another_name(value: str) -> None:
    before, after = (of_kind(render(*sets), "Job") for sets in ((), (value,)))
    assert before.keys().isdisjoint(after), "the pod template of a Job cannot be changed, so the upgrade would fail"
