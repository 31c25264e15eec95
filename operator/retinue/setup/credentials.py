"""Credentials of a release: made once, at random, and never changed or printed by the setup Job.

The data plane's credential exists in the clear only where gateway and operator run; model pods get its SHA-256.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from urllib.parse import quote

from retinue.kube.client import KubeClient, Object
from retinue.kube.errors import AlreadyExists, NotFound
from retinue.kube.resources import SECRET
from retinue.resources.meta import LABEL_MANAGED_BY, MANAGED_BY

AGENT_SECRET = "retinue-agent-credential"  # noqa: S105 (a name, not a secret)


async def ensure_credentials(
    client: KubeClient, release: str, namespace: str, models_namespace: str, postgres_host: str | None
) -> list[str]:
    """Make what is missing; returns the names of the Secrets that were made now."""
    made: list[str] = []

    async def ensure(name: str, where: str, content: Callable[[], dict[str, str]]) -> dict[str, str]:
        data, created = await _ensure(client, name, where, content)
        if created:
            made.append(f"{where}/{name}")
        return data

    if postgres_host is not None:
        await ensure(f"{release}-postgres", namespace, lambda: _postgres(postgres_host))
    await ensure(f"{release}-gateway-token", namespace, lambda: {"token": f"retinue_{secrets.token_urlsafe(32)}"})
    plane = await ensure(f"{release}-data-plane", namespace, lambda: {"credential": secrets.token_urlsafe(32)})
    digest = hashlib.sha256(plane["credential"].encode()).hexdigest()
    agents = await ensure(AGENT_SECRET, models_namespace, lambda: {"sha256": f"{digest}\n"})
    if digest not in agents["sha256"].split():
        # The models namespace outlived the release's Secret: agents must accept the new credential too.
        body = _secret(AGENT_SECRET, models_namespace, {"sha256": f"{digest}\n"})
        await client.apply(SECRET, body)
        made.append(f"{models_namespace}/{AGENT_SECRET}")
    return made


async def _ensure(
    client: KubeClient, name: str, namespace: str, content: Callable[[], dict[str, str]]
) -> tuple[dict[str, str], bool]:
    try:
        return _read(await client.get(SECRET, name, namespace)), False
    except NotFound:
        data = content()
    try:
        await client.create(SECRET, _secret(name, namespace, data), namespace)
    except AlreadyExists:
        return _read(await client.get(SECRET, name, namespace)), False
    return data, True


async def read_dsn(client: KubeClient, release: str, namespace: str) -> str:
    """The connection string of the chart's own database."""
    return _read(await client.get(SECRET, f"{release}-postgres", namespace))["dsn"]


def _postgres(host: str) -> dict[str, str]:
    password = secrets.token_urlsafe(32)
    dsn = f"postgresql://retinue:{quote(password)}@{host}:5432/retinue"
    return {"username": "retinue", "database": "retinue", "password": password, "dsn": dsn}


def _secret(name: str, namespace: str, data: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def _read(secret: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
