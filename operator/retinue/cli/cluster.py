"""How commands reach the cluster: kubeconfig, context and namespace as kubectl takes them, errors as exit codes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from retinue.cli.exits import CONFLICT, FALSE, NOT_FOUND, REFUSED, USAGE, CommandError

if TYPE_CHECKING:
    from retinue.kube.client import KubeClient, Object, Resource

T = TypeVar("T")

KubeconfigOption = Annotated[
    str | None,
    typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Path of the kubeconfig file.", show_default=False),
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default=False)]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: that of the context.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster and namespace a command works on."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None

    def default_namespace(self) -> str:
        """The namespace given, else that of the context, else `default`."""
        if self.namespace:
            return self.namespace
        from retinue.kube.contexts import context_namespace

        return context_namespace(self.kubeconfig, self.context)


@contextlib.asynccontextmanager
async def connected(access: Access) -> AsyncIterator["KubeClient"]:
    """A client of the API server, closed afterwards."""
    from retinue.kube.aio import connect

    client = await connect(access.kubeconfig, access.context)
    try:
        yield client
    finally:
        await client.close()


def run(access: Access, work: Callable[["KubeClient"], Awaitable[T]]) -> T:
    """Run a coroutine with a client; turn what the API server says into a message and an exit code."""
    from retinue.kube import errors
    from retinue.kube.aio import NoCluster

    async def main() -> T:
        async with connected(access) as client:
            return await work(client)

    try:
        return asyncio.run(main())
    except NoCluster as error:
        raise CommandError(str(error), USAGE) from None
    except errors.NotFound as error:
        raise CommandError(f"not found: {error.message}", NOT_FOUND) from None
    except errors.Forbidden as error:
        raise CommandError(f"refused by the cluster: {error.message}", REFUSED) from None
    except errors.Conflict as error:
        raise CommandError(f"changed meanwhile, try again: {error.message}", CONFLICT) from None
    except errors.Unavailable as error:
        raise CommandError(f"the API server does not answer: {error.message}", FALSE) from None
    except errors.ApiError as error:
        raise CommandError(str(error), FALSE) from None


async def list_all(client: "KubeClient", resource: "Resource", namespace: str | None) -> list["Object"]:
    """Every object of a kind, page by page; namespace None means all namespaces."""
    items: list[Object] = []
    token: str | None = None
    while True:
        page = await client.list_page(resource, namespace, continue_token=token)
        items += page.items
        if not (token := page.continue_token):
            return items
