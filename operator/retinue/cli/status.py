"""`retinue status`: one tree from assistants down to model pods, with what each waits for."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from retinue.cli.cluster import Access, ContextOption, KubeconfigOption, NamespaceOption, connected, list_all, run
from retinue.cli.exits import FALSE, NOT_FOUND, TIMED_OUT, CommandError
from retinue.cli.screen import console, icon, state_of

if TYPE_CHECKING:
    from rich.tree import Tree

    from retinue.kube.client import KubeClient, Object


@dataclass(slots=True)
class Fleet:
    """What one look at the cluster found."""

    assistants: "list[Object]" = field(default_factory=list)
    deployments: "list[Object]" = field(default_factory=list)
    servers: "dict[str, Object]" = field(default_factory=dict)
    """By name; they all live in the models namespace."""
    servers_known: bool = True
    """False: the caller may not read ModelServers, so that an absent one says nothing."""


def register(app: typer.Typer) -> None:
    """Add `status` to the command line."""

    @app.command()
    def status(
        assistant: Annotated[
            str | None, typer.Argument(help="One assistant; default: all.", show_default=False)
        ] = None,
        namespace: NamespaceOption = None,
        all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")] = False,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw until interrupted.")] = False,
        wait: Annotated[
            bool, typer.Option("--wait", help="Redraw until all is ready; exit 1 when something is stalled.")
        ] = False,
        timeout: Annotated[float, typer.Option(help="Seconds that --wait and --watch last at most.", min=1)] = 3600,
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
    ) -> None:
        """Show assistants, their deployments, model servers and pods, and what each waits for.

        Examples: retinue status -A; retinue status helper -n bots -w; retinue status helper -n bots --wait
        """
        access = Access(kubeconfig, context, namespace)
        where = None if all_namespaces else access.default_namespace()
        if watch or wait:
            raise typer.Exit(_live(access, where, assistant, wait=wait, timeout=timeout))
        fleet = run(access, lambda client: look(client, where, assistant))
        if not fleet.assistants and not fleet.deployments:
            raise CommandError(_nothing(where, assistant), NOT_FOUND)
        console().print(draw(fleet))
        raise typer.Exit(0 if _ready(fleet) else FALSE)


async def look(client: "KubeClient", namespace: str | None, assistant: str | None) -> Fleet:
    """Read everything that the tree shows. ModelServers are left out where the caller may not read them."""
    import asyncio

    from retinue.kube import resources
    from retinue.kube.errors import Forbidden

    async def servers() -> "list[Object] | None":
        try:
            return await list_all(client, resources.MODEL_SERVER, None)
        except Forbidden:
            return None

    assistants, deployments, found = await asyncio.gather(
        list_all(client, resources.ASSISTANT, namespace),
        list_all(client, resources.ASSISTANT_DEPLOYMENT, namespace),
        servers(),
    )
    wanted = [d for d in deployments if assistant in (None, d["spec"]["assistant"])]
    used = {n for d in wanted for n in _server_names(d)}
    return Fleet(
        [a for a in assistants if assistant in (None, a["metadata"]["name"])],
        wanted,
        {s["metadata"]["name"]: s for s in found or [] if s["metadata"]["name"] in used},
        servers_known=found is not None,
    )


def _server_names(deployment: "Object") -> list[str]:
    """The ModelServer that serves and, if it is another one, the one that is coming."""
    status = deployment.get("status", {})
    names = (status.get("modelServer"), status.get("candidate", {}).get("modelServer"))
    return list(dict.fromkeys(n for n in names if n))


def deployment_state(fleet: Fleet, deployment: "Object") -> tuple[str, str]:
    """State and message of a deployment. One that was Ready works again as soon as something else was asked of it.

    A change of the Assistant does not change the deployment, and nobody corrects a status while no operator runs; in
    both cases the conditions alone would still say Ready.
    """
    state, message = state_of(deployment)
    if state != "ok":
        return state, message
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status", {})
    if "latest" in spec.get("source", {}):
        place = (meta["namespace"], spec["assistant"])
        assistant = next(
            (a for a in fleet.assistants if (a["metadata"]["namespace"], a["metadata"]["name"]) == place), {}
        )
        newest = assistant.get("status", {}).get("latestRevision")
        if newest and newest != status.get("activeRevision"):
            return "working", f"waiting for the operator to roll out {newest}"
    missing = [name for name in _server_names(deployment) if name not in fleet.servers]
    if missing and fleet.servers_known:
        return "working", f"waiting for the operator to make ModelServer {missing[0]}"
    return state, message


def draw(fleet: Fleet) -> "Tree":
    """The tree: assistant, its deployments, their model servers and pods."""
    from rich.tree import Tree

    root = Tree("", hide_root=True)
    branches: dict[tuple[str, str], Tree] = {}
    for assistant in fleet.assistants:
        meta, spec = assistant["metadata"], assistant["spec"]
        revision = assistant.get("status", {}).get("latestRevision", "-")
        line = (
            f"Assistant [bold]{meta['namespace']}/{meta['name']}[/bold]  {spec.get('lifecycle', 'Active')}  {revision}"
        )
        branches[meta["namespace"], meta["name"]] = root.add(_line(state_of(assistant), line))
    for deployment in fleet.deployments:
        meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status", {})
        key = (meta["namespace"], spec["assistant"])
        if key not in branches:
            branches[key] = root.add(f"Assistant [bold]{key[0]}/{key[1]}[/bold]  (authored elsewhere)")
        line = (
            f"AssistantDeployment [bold]{meta['name']}[/bold]  {status.get('environment', '-')}  "
            f"{status.get('activeRevision', '-')}  {status.get('readyReplicas', 0)}/{status.get('replicas', 0)}"
        )
        branch = branches[key].add(_line(deployment_state(fleet, deployment), line))
        for name in _server_names(deployment):
            if server := fleet.servers.get(name):
                _draw_server(branch, server, candidate=name != status.get("modelServer"))
    return root


def _draw_server(branch: "Tree", server: "Object", *, candidate: bool) -> None:
    spec, status = server["spec"], server.get("status", {})
    role = "  (coming)" if candidate else ""
    where = spec.get("profile") or f"external {spec.get('externalServer')}"
    line = (
        f"ModelServer [bold]{server['metadata']['name']}[/bold]  {spec['model']['name']}  {where}  "
        f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas', 0)}{role}"
    )
    twig = branch.add(_line(state_of(server), line))
    pull = status.get("pull")
    if pull and pull.get("totalBytes") and pull["completedBytes"] < pull["totalBytes"]:
        twig.add(f"{icon('pull')} {_bar(pull['completedBytes'], pull['totalBytes'])}")
    for pod in status.get("pods", []):
        state = "ok" if pod.get("ready") else "working"
        twig.add(f"{icon(state)} Pod {pod['name']}  {pod.get('phase', '')}  {pod.get('processor') or ''}")


def _line(seen: tuple[str, str], text: str) -> str:
    state, message = seen
    return f"{icon(state)} {text}  [dim]{escape(message)}[/dim]"


def _bar(done: int, total: int) -> str:
    width = 24
    full = width * done // total
    return f"{'█' * full}{'░' * (width - full)} {100 * done // total}%  {done / 1e6:.0f}/{total / 1e6:.0f} MB"


def _ready(fleet: Fleet) -> bool:
    seen = [*(state_of(a) for a in fleet.assistants), *(deployment_state(fleet, d) for d in fleet.deployments)]
    return all(state in ("ok", "paused") for state, _ in seen)


def _nothing(namespace: str | None, assistant: str | None) -> str:
    place = f"namespace {namespace}" if namespace else "the cluster"
    return f"no assistant{f' {assistant}' if assistant else ''} in {place} (all namespaces: retinue status -A)"


def _live(access: Access, namespace: str | None, assistant: str | None, *, wait: bool, timeout: float) -> int:
    """Redraw on a terminal; elsewhere one line per change and the tree at the end."""
    import asyncio
    import time

    from rich.live import Live

    from retinue.kube.errors import ApiError

    stop = time.monotonic() + timeout
    screen = console()
    said: dict[str, str] = {}

    def show(live: Live | None, fleet: Fleet) -> None:
        if live is not None:
            live.update(draw(fleet))
            return
        seen = [(d, deployment_state(fleet, d)) for d in fleet.deployments]
        seen += [(s, state_of(s)) for s in fleet.servers.values()]
        for obj, (state, message) in seen:
            line = f"{obj.get('kind', '')} {obj['metadata']['name']}  {message}".strip()
            if said.get(obj["metadata"]["uid"]) != line:
                said[obj["metadata"]["uid"]] = line
                screen.print(f"{icon(state)} {escape(line)}")

    async def loop(live: Live | None) -> int:
        stalled_since: dict[str, float] = {}
        async with connected(access) as client:
            while time.monotonic() < stop:
                try:
                    fleet = await look(client, namespace, assistant)
                except ApiError as error:
                    console(stderr=True).print(f"[red]{escape(str(error))}[/red]")
                    await asyncio.sleep(1)
                    continue
                show(live, fleet)
                if wait and fleet.deployments and _ready(fleet):
                    if live is None:
                        screen.print(draw(fleet))
                    return 0
                stalled = [o["metadata"]["name"] for o in fleet.deployments if state_of(o)[0] == "bad"]
                stalled_since = {n: stalled_since.get(n, time.monotonic()) for n in stalled}
                # A stall of a few seconds may be one that a change just applied has already cured.
                if wait and any(time.monotonic() - since > 10 for since in stalled_since.values()):
                    return FALSE
                await asyncio.sleep(0.5)
        return TIMED_OUT if wait else 0

    try:
        if not screen.is_terminal:
            return asyncio.run(loop(None))
        with Live(console=screen, refresh_per_second=5, vertical_overflow="visible") as live:
            return asyncio.run(loop(live))
    except KeyboardInterrupt:
        return 0
