"""Renders the chart with the real Helm and reads the result as objects."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from testbed import binaries

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "retinue"
Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller looks at the exit code."""
    return subprocess.run([str(binaries.ensure("helm")), *arguments], capture_output=True, text=True, check=False)


def render(*sets: str, namespace: str = "retinue-system") -> list[Object]:
    """All objects of the chart with these values."""
    flags = [flag for value in sets for flag in ("--set", value)]
    done = helm("template", "retinue", str(CHART), "-n", namespace, "--kube-version", "1.34.4", *flags)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Objects of a kind by name; two of one name in different namespaces keep the namespace in the key."""
    return {f"{o['metadata'].get('namespace', '')}/{o['metadata']['name']}": o for o in objects if o["kind"] == kind}


def pod_specs(objects: list[Object]) -> dict[str, Object]:
    """Every pod spec in the chart, by kind and name."""
    return {
        f"{o['kind']}/{o['metadata']['name']}": o["spec"]["template"]["spec"]
        for o in objects
        if o["kind"] in ("Deployment", "StatefulSet", "Job")
    }
