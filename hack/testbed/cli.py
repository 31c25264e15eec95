"""`./hack/cluster`: clusters on this machine, by name."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from testbed import binaries, state, versions
from testbed.cluster import Cluster, all_clusters
from testbed.errors import TestbedError
from testbed.progress import console, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A real Kubernetes cluster on this machine: a control plane (no root), or a whole node (root).",
)
Name = Annotated[str, typer.Option("--name", "-n", help="Which cluster; several can run at once.")]
DEFAULT = os.environ.get("RETINUE_CLUSTER") or "retinue"


@app.command()
def up(
    name: Name = DEFAULT,
    control_plane: Annotated[
        bool, typer.Option("--control-plane", help="etcd, API server, controller manager, scheduler. No pods, no root.")
    ] = False,
    node: Annotated[bool, typer.Option("--node", help="Also a node with real containers. Needs root.")] = False,
) -> None:
    """Start a cluster, or mend the running one of that name. Without a choice: a node as root, else a control plane."""
    if control_plane and node:
        raise TestbedError("--control-plane and --node exclude each other: give one")
    began = time.monotonic()
    with_node = node or (not control_plane and os.geteuid() == 0)
    cluster = Cluster.up_node(name) if with_node else Cluster.up_control_plane(name)
    say(f"cluster {name} is ready at {cluster.url} ({time.monotonic() - began:.0f} s)")
    say(f'next: eval "$(./hack/cluster env --name {name})"; kubectl get namespaces')


@app.command()
def down(
    name: Name = DEFAULT,
    everything: Annotated[bool, typer.Option("--all", help="End every cluster of this cache folder.")] = False,
) -> None:
    """End a cluster and remove all of it. Works on half-started and half-killed ones too."""
    for cluster in all_clusters() if everything else [Cluster(name)]:
        there = cluster.folder.exists()
        cluster.down()
        say(f"cluster {cluster.name} is gone" if there else f"there was no cluster {cluster.name}")


@app.command()
def status() -> None:
    """List clusters with their processes. Exit code 1 when one is not whole."""
    whole = True
    for cluster in all_clusters():
        facts = state.load(cluster.folder)
        phase = facts.phase if facts else "broken"
        whole = whole and phase == "ready"
        print(f"{cluster.name}  {facts.kind if facts else '?'}  {phase}  {cluster.url if facts else ''}")
        for record in cluster.processes.records():
            whole = whole and record.alive
            print(f"  {record.name:<24} {'running' if record.alive else 'DEAD':<8} {record.pid}")
    if not whole:
        console.print("a cluster is not whole: ./hack/cluster up --name NAME mends it, down --name NAME removes it")
        raise typer.Exit(1)


@app.command()
def env(name: Name = DEFAULT) -> None:
    """Print shell lines that make kubectl and helm use the cluster: eval "$(./hack/cluster env)"."""
    for key, value in Cluster.open(name).environment().items():
        print(f"export {key}={shlex.quote(value)}")


@app.command()
def load(
    archives: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, metavar="IMAGE.tar...")],
    name: Name = DEFAULT,
) -> None:
    """Import image archives (docker-archive or OCI) into the node."""
    for archive in archives:
        for image in Cluster.open(name).load_image(archive):
            say(f"loaded {image}")


@app.command()
def shell(name: Name = DEFAULT) -> None:
    """Open a shell in which kubectl and helm use the cluster."""
    program = os.environ.get("SHELL") or "/bin/bash"
    say(f"shell for cluster {name}; leave it with exit")
    os.execvpe(program, [program], {**os.environ, **Cluster.open(name).environment()})


@app.command()
def tools(
    names: Annotated[list[str] | None, typer.Argument(metavar="[TOOL...]")] = None,
) -> None:
    """Build (or find) binaries and print their paths. Without names: all but kwok."""
    for name in names or [known for known in versions.tools() if known != "kwok"]:
        print(binaries.ensure(name))


def main() -> None:
    """Entry point: a known error is one readable message and exit code 1, never a traceback."""
    try:
        app(prog_name="./hack/cluster")
    except TestbedError as error:
        console.print(Text.assemble(("✗ ", "red"), str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
