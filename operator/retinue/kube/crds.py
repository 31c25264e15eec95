"""Roles do not start on CRDs that are older than they are: fields would silently vanish in pruning."""

import asyncio
import time

import structlog

from retinue.kube import errors
from retinue.kube.client import KubeClient, Object
from retinue.kube.resources import CUSTOM_RESOURCE_DEFINITION
from retinue.resources.meta import ANNOTATION_SCHEMA, GROUP, KINDS, SCHEMA_REVISION

log = structlog.get_logger(__name__)


class CrdsNotReady(Exception):
    """The CRDs do not fit this release; the message says which, and what to do."""


async def wait_for_crds(client: KubeClient, *, seconds: float = 60.0, poll_seconds: float = 2.0) -> None:
    """Waits until every CRD is established and at least as new as this release.

    Newer CRDs are right: they change only additively, and an upgrade installs them first. Raises CrdsNotReady after
    `seconds`.
    """
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        problem = await crd_problem(client)
        if problem is None:
            return
        if time.monotonic() >= deadline:
            raise CrdsNotReady(problem)
        if problem != said:
            log.warning("waiting for the CRDs", problem=problem)
            said = problem
        await asyncio.sleep(poll_seconds)


async def crd_problem(client: KubeClient) -> str | None:
    """The first thing that is wrong with the CRDs, or None."""
    for plural in KINDS.values():
        name = f"{plural}.{GROUP}"
        try:
            found = await client.get(CUSTOM_RESOURCE_DEFINITION, name)
        except errors.NotFound:
            return f"the CRD {name} is not installed: install the chart, or apply the files in crds/"
        except errors.ApiError as error:
            return f"the CRD {name} cannot be read: {error.summary}"
        if (problem := _fits(name, found)) is not None:
            return problem
    return None


def _fits(name: str, found: Object) -> str | None:
    schema = found["metadata"].get("annotations", {}).get(ANNOTATION_SCHEMA, "")
    if not schema.isdigit() or int(schema) < int(SCHEMA_REVISION):
        return (
            f"the CRD {name} has {ANNOTATION_SCHEMA}={schema or 'nothing'} but this release needs {SCHEMA_REVISION}: "
            "upgrade the CRDs (helm upgrade, or apply the files in crds/)"
        )
    conditions = found.get("status", {}).get("conditions") or []
    if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
        return f"the CRD {name} is not established yet"
    return None
