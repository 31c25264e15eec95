"""The images run as the chart runs them: restricted, without root, on a read-only root file system."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
import stamina

from testbed.cluster import Cluster
from testbed.images import build_images, image_tag
from testbed.images_engine import full_name
from testbed.model_registry import ModelRegistry

pytestmark = pytest.mark.node

Pod = dict[str, Any]


@pytest.fixture(scope="module")
def loaded(node: Cluster) -> Cluster:
    """The node with all images of ours."""
    for name, archive in build_images().items():
        assert node.load_image(archive) == [full_name(image_tag(name))]
    return node


@pytest.fixture
def registry(node: Cluster) -> Iterator[ModelRegistry]:
    """A model registry where pods reach it."""
    with ModelRegistry(node.host_address) as server:
        yield server


def restricted(name: str, image: str, *, user: int, env: dict[str, str], writable: list[str], **container: Any) -> Pod:
    """A pod as restricted Pod Security demands it; `writable` paths are emptyDirs."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "securityContext": security,
        "volumeMounts": [{"name": f"v{number}", "mountPath": path} for number, path in enumerate(writable)],
        **container,
    }
    spec = {
        "containers": [main],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": f"v{number}", "emptyDir": {}} for number in range(len(writable))],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def running(node: Cluster, namespace: str, pod: Pod) -> str:
    """Create a pod and wait until it is ready; its address."""
    name = pod["metadata"]["name"]
    node.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(pod))
    node.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")
    return node.kubectl("-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.podIP}")


@pytest.fixture
def run(loaded: Cluster, node_namespace: str) -> Callable[[Pod], str]:
    """Create a pod in a fresh restricted namespace, wait until it is ready, give its address."""
    return lambda pod: running(loaded, node_namespace, pod)


def test_retinue_starts_without_root_on_a_read_only_root(loaded: Cluster, node_namespace: str) -> None:
    pod = restricted("help", image_tag("retinue"), user=10001, env={}, writable=[])
    pod["spec"]["restartPolicy"] = "Never"
    loaded.kubectl("-n", node_namespace, "create", "-f", "-", input=json.dumps(pod))
    loaded.kubectl(
        "-n", node_namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/help", "--timeout=60s"
    )
    shown = loaded.kubectl("-n", node_namespace, "logs", "help")
    assert all(role in shown for role in ("operator", "gateway", "agent"))


def test_ollama_pulls_from_the_registry_outside_and_answers(run: Callable[[Pod], str], registry: ModelRegistry) -> None:
    env = {"OLLAMA_MODELS": "/models", "HOME": "/home/ollama", "TMPDIR": "/scratch"}
    address = run(
        restricted(
            "ollama",
            image_tag("ollama"),
            user=10001,
            env=env,
            writable=["/models", "/home/ollama", "/scratch"],
            readinessProbe={"httpGet": {"path": "/", "port": 11434}, "periodSeconds": 1},
        )
    )
    base = f"http://{address}:11434"
    name = f"{registry.address}/library/smollm2:135m"
    pulled = httpx.post(f"{base}/api/pull", json={"model": name, "insecure": True, "stream": False}, timeout=120)
    assert pulled.json() == {"status": "success"}
    chat = {
        "model": name,
        "stream": False,
        "options": {"num_predict": 8},
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert httpx.post(f"{base}/api/chat", json=chat, timeout=120).json()["message"]["content"]
    assert f"sha256:{httpx.get(f'{base}/api/ps').json()['models'][0]['digest']}" == registry.digest("smollm2:135m")


async def test_postgres_makes_its_database_once_and_keeps_it(
    loaded: Cluster, node_namespace: str, run: Callable[[Pod], str]
) -> None:
    loaded.kubectl("-n", node_namespace, "create", "secret", "generic", "pg", "--from-literal=password=s3cret word")
    env = {
        "POSTGRES_USER": "retinue",
        "POSTGRES_DB": "history",
        "POSTGRES_PASSWORD_FILE": "/etc/pg/password",
        "PGDATA": "/var/lib/postgresql/data/pgdata",
    }
    probe = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "retinue"]}, "periodSeconds": 1}
    writable = ["/var/lib/postgresql/data", "/var/run/postgresql", "/tmp"]
    pod = restricted("pg", image_tag("postgres"), user=999, env=env, writable=writable, readinessProbe=probe)
    pod["spec"]["volumes"].append({"name": "pg", "secret": {"secretName": "pg"}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "pg", "mountPath": "/etc/pg", "readOnly": True})
    address = run(pod)

    login = {"host": address, "user": "retinue", "database": "history"}
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**login, password="wrong")
    connection = await asyncpg.connect(**login, password="s3cret word")
    await connection.execute("CREATE TABLE rows AS SELECT 7 AS n")
    await connection.close()

    loaded.kubectl("-n", node_namespace, "exec", "pg", "--", "sh", "-c", "kill -INT 1")
    async for attempt in stamina.retry_context((OSError, asyncpg.PostgresError), attempts=60, timeout=60, wait_max=1):
        with attempt:
            again = await asyncpg.connect(**login, password="s3cret word")
            assert await again.fetchval("SELECT n FROM rows") == 7
            await again.close()
    restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
    loaded.kubectl("-n", node_namespace, "wait", restarted, "pod/pg", "--timeout=60s")
    assert "s3cret" not in loaded.kubectl("-n", node_namespace, "logs", "pg", "--previous")


def test_postgres_without_a_password_says_what_to_set(loaded: Cluster, node_namespace: str) -> None:
    pod = restricted("pg", image_tag("postgres"), user=999, env={}, writable=["/var/lib/postgresql/data", "/tmp"])
    pod["spec"]["restartPolicy"] = "Never"
    loaded.kubectl("-n", node_namespace, "create", "-f", "-", input=json.dumps(pod))
    loaded.kubectl("-n", node_namespace, "wait", "--for=jsonpath={.status.phase}=Failed", "pod/pg", "--timeout=60s")
    assert "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" in loaded.kubectl("-n", node_namespace, "logs", "pg")
