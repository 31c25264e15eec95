"""The demo command: from nothing to a streamed answer of a real model, by the same chart that users install."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from testbed import demo_local
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.images import build_images
from testbed.model_registry import ModelRegistry
from testbed.model_registry_content import answers
from testbed.progress import say
from testbed.release import ROOT, Release, testbed_values

app = typer.Typer(add_completion=False)
console = Console(highlight=False, soft_wrap=True)
NAME = "demo"
EXAMPLE = ROOT / "examples" / "quickstart"
QUESTION = "Please greet our customers in one sentence."
REGISTRY_PORTS = (5000, 5001)
"""On the cluster's own host address, so they meet nobody else's."""


@app.command()
def main(
    down: Annotated[bool, typer.Option("--down", help="Remove everything that the demo made.")] = False,
    context: Annotated[
        str | None,
        typer.Option(
            help="Use this context of your kubeconfig instead of a cluster of its own (not tried here).",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        bool, typer.Option("--kind", help="Use kind; needs a running Docker engine (not tried here).")
    ] = False,
    question: Annotated[str, typer.Option("--question", "-q", help="What to ask.")] = QUESTION,
) -> None:
    """Install retinue, apply examples/quickstart and ask the assistant a question.

    As root: a cluster with one real node on this machine, models from a registry of its own. Not root: a real control
    plane with local processes and a local Ollama as external server. Run it again: it goes on where it is.

    Examples: ./hack/demo; ./hack/demo -q "Which flower for a friend?"; ./hack/demo --down
    """
    began = time.monotonic()
    try:
        if down:
            _down(context)
        elif context or kind:
            _existing(context, question, use_kind=kind)
        elif os.geteuid() == 0:
            _node(question)
        else:
            demo_local.run(question)
    except TestbedError as error:
        console.print(f"[red]✗[/red] {error}", markup=True)
        raise typer.Exit(1) from None
    except subprocess.CalledProcessError as error:
        console.print(f"[red]✗[/red] {' '.join(map(str, error.cmd[:4]))} ended with {error.returncode}")
        raise typer.Exit(1) from None
    console.print(f"[green]✔[/green] done in {time.monotonic() - began:.0f} s")


def _node(question: str) -> None:
    """A node of our own: containerd, kubelet, real pods."""
    images = build_images(["retinue", "ollama", "postgres"])
    cluster = Cluster.up_node(NAME)
    registry = _registry(cluster)
    for name, archive in images.items():
        say(f"loading image {name}")
        cluster.load_image(archive)
    release = Release(cluster.kubeconfig)
    say("installing the chart (helm upgrade --install)")
    release.install(testbed_values(registry.address))
    _tell(release, question)
    console.print(
        "\n[bold]Go on[/bold]\n"
        f'  eval "$(./hack/cluster env --name {NAME})"          kubectl and helm for this cluster\n'
        "  kubectl -n bots edit assistant helper        change the prompt: no new pod, a new answer\n"
        "  kubectl -n bots scale astdep helper --replicas=2\n"
        "  docs/guides/                                 what else to try, step by step\n"
        "  ./hack/demo --down                           remove everything"
    )


def _registry(cluster: Cluster) -> ModelRegistry:
    port, blob_port = REGISTRY_PORTS
    registry = ModelRegistry(cluster.host_address, port=port, blob_port=blob_port, cluster_folder=cluster.folder)
    if not answers(f"{registry.url}/v2/"):
        say("starting the model registry (smollm2:135m, gemma3:270m)")
        registry.start()
    return registry


def _existing(context: str | None, question: str, *, use_kind: bool) -> None:
    """A cluster that exists, or kind: models from the public registry, images from where the cluster finds them."""
    if use_kind:
        if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
            raise TestbedError(
                "--kind needs a running Docker engine, and `docker info` fails; without --kind no Docker is needed"
            )
        subprocess.run(["kind", "create", "cluster", "--name", f"retinue-{NAME}"], check=True)
        archive = build_images(["retinue"])["retinue"]
        subprocess.run(["kind", "load", "image-archive", str(archive), "--name", f"retinue-{NAME}"], check=True)
        context = f"kind-retinue-{NAME}"
    release = Release(None, context=context)
    say(f"installing the chart into context {context}")
    release.install()
    _tell(release, question)


def _tell(release: Release, question: str) -> None:
    """Apply the example and show what happens until the answer, the objects and the health rows."""
    say(f"kubectl apply -f {EXAMPLE.relative_to(ROOT)}/")
    console.print(release.kubectl("apply", "-f", str(EXAMPLE)).strip(), style="dim")
    flags = _cluster_flags(release)
    say("retinue status -n bots --wait")
    _retinue("status", "-n", "bots", "--wait", "--timeout", "600", *flags)
    say("every object")
    for kind in ("assistants", "revisions", "deployments"):
        _retinue("get", kind, "-n", "bots", *flags)
    _retinue("get", "modelservers", "-n", release.models_namespace, *flags)
    console.print(release.kubectl("-n", release.models_namespace, "get", "pods", "-o", "wide").rstrip())
    console.print(
        release.kubectl(
            "get", "namespace", release.models_namespace, "-L", "pod-security.kubernetes.io/enforce"
        ).rstrip()
    )
    say("health rows, read back from Postgres: retinue db newest bots/helper")
    _health_rows(release)
    say(f'retinue chat bots/helper -m "{question}"')
    where = ["--release", release.name, "--release-namespace", release.namespace]
    _retinue("chat", "bots/helper", "-m", question, *where, *flags)


def _health_rows(release: Release) -> None:
    """Rows arrive within a minute of the first probe; wait for them, as a person would."""
    operator = f"deployment/{release.name}-operator"
    command = ["-n", release.namespace, "exec", operator, "--", "retinue", "db", "newest", "bots/helper"]
    stop = time.monotonic() + 90
    while "deployments: no rows" in (rows := release.kubectl(*command)) and time.monotonic() < stop:
        time.sleep(1)
    console.print(rows.rstrip(), markup=False)


def _cluster_flags(release: Release) -> list[str]:
    flags = ["--kubeconfig", str(release.kubeconfig)] if release.kubeconfig else []
    return [*flags, "--context", release.context] if release.context else flags


def _retinue(*arguments: str) -> None:
    """The product's own command line, its output as a person sees it."""
    from testbed import binaries

    sys.stdout.flush()
    path = f"{binaries.ensure('kubectl').parent}:{os.environ['PATH']}"
    command = [str(Path(sys.executable).with_name("retinue")), *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def _down(context: str | None) -> None:
    if context:
        release = Release(None, context=context)
        release.uninstall()
        release.kubectl("delete", "namespace", release.namespace, "bots", "--ignore-not-found")
        say("CRDs and what else was yours stay: kubectl get crd | grep retinue.dev")
        return
    Cluster(NAME).down()
    say("the cluster of the demo is gone")


if __name__ == "__main__":
    app()
