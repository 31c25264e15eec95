"""Asks a model registry which content a name stands for: sha256 of the manifest bytes that it serves.

Only hosts that the platform file lists are ever asked. Credentials come from files that the chart mounts, are read
again for each question (a Secret may be rotated) and stand in no message.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
import orjson

from retinue.domain.model_name import Resolved, resolve
from retinue.domain.violation import Violation
from retinue.resources.platform import ModelRegistry

ACCEPT: Final = "application/vnd.docker.distribution.manifest.v2+json"
"""The form of a manifest whose bytes Ollama hashes."""
MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Longest manifest that is read, in bytes."""
SECONDS: Final = 20.0
"""Deadline of one question, token included."""
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')


class RegistryError(Exception):
    """The registry gave no digest. `str()` is one line for a condition, free of credentials."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """RegistryUnreachable, RegistryDenied, ModelUnknown or RegistryAnswerInvalid."""


class Digests(Protocol):
    """What reconcilers need: from a model's name to its digest."""

    async def digest(self, name: str) -> str:
        """`sha256:...` of the model's manifest. Raises RegistryError."""
        ...


class ModelRegistries:
    """The listed registries. One per process; close it."""

    def __init__(
        self,
        registries: Sequence[ModelRegistry],
        *,
        credentials_folder: Path | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """`credentials_folder` holds one folder per credentials Secret with the files `username` and `password`."""
        self._registries = tuple(registries)
        self._folder = credentials_folder
        self._seconds = seconds
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=5.0),
            headers={"User-Agent": "retinue"},
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def digest(self, name: str) -> str:
        """See Digests."""
        where = resolve(name, self._registries)
        if isinstance(where, Violation):
            raise RegistryError(where.reason, str(where))
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask(where)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            cause = "no answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else _cause(error)
            raise RegistryError("RegistryUnreachable", f"{where.registry.host} cannot be asked: {cause}") from None

    async def _ask(self, where: Resolved) -> str:
        host = where.registry.host
        url = f"{'http' if where.registry.insecure else 'https'}://{host}/v2/{where.repository}/manifests/{where.tag}"
        login = self._login(where.registry)
        auth = httpx.BasicAuth(*login) if login is not None else None
        status, body, headers = await self._get(url, {"Accept": ACCEPT}, auth)
        challenge = headers.get("www-authenticate", "")
        if status == 401 and challenge.lower().startswith("bearer "):
            token = await self._token(where, challenge, auth)
            status, body, headers = await self._get(url, {"Accept": ACCEPT, "Authorization": f"Bearer {token}"}, None)
        named = f"{where.repository}:{where.tag}"
        if status == 404:
            raise RegistryError("ModelUnknown", f"{host} has no model {named}")
        if status in (401, 403):
            raise RegistryError("RegistryDenied", f"{host} does not let this installation read {named} (HTTP {status})")
        if status != 200:
            kind = "RegistryUnreachable" if status >= 500 or status == 429 else "RegistryAnswerInvalid"
            raise RegistryError(kind, f"{host} answered HTTP {status} for {named}")
        return _digest_of(body, headers.get("docker-content-digest"), f"{host} for {named}")

    async def _get(
        self, url: str, headers: dict[str, str], auth: httpx.BasicAuth | None
    ) -> tuple[int, bytes, httpx.Headers]:
        """Status, body (bounded) and headers of one GET."""
        async with self._client.stream("GET", url, headers=headers, auth=auth) as reply:
            body = bytearray()
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > MAX_MANIFEST:
                    raise RegistryError("RegistryAnswerInvalid", f"{reply.url.host} sent more than a manifest")
            return reply.status_code, bytes(body), reply.headers

    async def _token(self, where: Resolved, challenge: str, auth: httpx.BasicAuth | None) -> str:
        """The token that a registry's own token service gives for reading this one repository."""
        said = dict(_CHALLENGE.findall(challenge))
        realm = urlsplit(said.get("realm", ""))
        own = realm.netloc.lower() == where.registry.host.lower()
        if realm.scheme != "https" and not (own and where.registry.insecure and realm.scheme == "http"):
            raise RegistryError("RegistryAnswerInvalid", f"{where.registry.host} names a token service without TLS")
        query = {"scope": f"repository:{where.repository}:pull"}
        if "service" in said:
            query["service"] = said["service"]
        status, body, _ = await self._get(str(httpx.URL(said["realm"], params=query)), {}, auth)
        if status != 200:
            raise RegistryError("RegistryDenied", f"the token service of {where.registry.host} answered HTTP {status}")
        try:
            reply = orjson.loads(body)
            return str(reply.get("token") or reply["access_token"])
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RegistryError(
                "RegistryAnswerInvalid", f"the token service of {where.registry.host} sent no token"
            ) from None

    def _login(self, registry: ModelRegistry) -> tuple[str, str] | None:
        if registry.credentials_secret is None or self._folder is None:
            return None
        folder = self._folder / registry.credentials_secret
        try:
            return (folder / "username").read_text().strip(), (folder / "password").read_text().strip()
        except OSError:
            raise RegistryError(
                "RegistryDenied",
                f"credentials of {registry.host} are not mounted: Secret {registry.credentials_secret} needs the keys "
                "username and password",
            ) from None


def _digest_of(body: bytes, said: str | None, where: str) -> str:
    """sha256 of the bytes, if they are a manifest and are what the registry says they are."""
    try:
        manifest = orjson.loads(body)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("layers"), list):
        raise RegistryError("RegistryAnswerInvalid", f"{where}: the answer is no manifest of a model")
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if said and said.lower() != digest:
        raise RegistryError("RegistryAnswerInvalid", f"{where}: the manifest was altered on its way")
    return digest


def _cause(error: BaseException) -> str:
    """What failed, without addresses that change from try to try."""
    return f"{type(error).__name__}: {error}"[:200] if str(error) else type(error).__name__
