"""Every fault of the proxy, shown on the wire against the real API server."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from testbed.cluster import Cluster
from testbed.faultproxy_faults import (
    Cut,
    CutStream,
    Delay,
    EndStream,
    Fault,
    HideLines,
    Kill,
    LostReply,
    Refuse,
    RepeatLines,
    SilentStream,
    SlowStream,
    Twice,
)
from testbed.faultproxy_kube import KubeFaultProxy, gone

pytestmark = pytest.mark.api

BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError)


@pytest.fixture
def client(fault_proxy: KubeFaultProxy, control_plane: Cluster) -> Iterator[httpx.Client]:
    """A plain HTTP client through the proxy; the proxy lends it the administrator's identity."""
    tls = ssl.create_default_context(cafile=str(control_plane.certs.authority.cert))
    with httpx.Client(base_url=fault_proxy.url, verify=tls, timeout=20) as made:
        yield made


@pytest.fixture
def maps(namespace: str) -> str:
    """Where the test's ConfigMaps live."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def names(control_plane: Cluster, namespace: str) -> set[str]:
    """The test's ConfigMaps, asked for past the proxy."""
    listed = json.loads(control_plane.kubectl("-n", namespace, "get", "configmaps", "-o", "json"))["items"]
    return {item["metadata"]["name"] for item in listed} - {"kube-root-ca.crt"}


def version_of(client: httpx.Client, maps: str) -> str:
    return str(client.get(maps).json()["metadata"]["resourceVersion"])


class Watch:
    """A watch in a thread of its own: the events that came, and how it ended."""

    def __init__(self, client: httpx.Client, maps: str, **params: str) -> None:
        self.events: list[tuple[str, str]] = []
        self.ended: str | None = None
        self._changed = threading.Condition()
        self._query = {"watch": "1", "resourceVersion": version_of(client, maps), **params}
        self._client, self._maps = client, maps
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._open.wait(20)

    def _run(self) -> None:
        how = "whole"
        try:
            with self._client.stream("GET", self._maps, params=self._query, timeout=60) as answer:
                self._open.set()
                for line in answer.iter_lines():
                    event = json.loads(line)
                    found = event["object"]
                    with self._changed:
                        self.events.append((event["type"], str(found.get("code") or found["metadata"].get("name"))))
                        self._changed.notify_all()
        except BROKEN:
            how = "broken"
        self._open.set()
        with self._changed:
            self.ended = how
            self._changed.notify_all()

    def until(self, count: int) -> list[tuple[str, str]]:
        """Wait for this many events."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, 20), self.events
            return list(self.events)

    def end(self) -> str:
        """Wait for the end; `whole` or `broken`."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended is not None, 20)
            assert self.ended is not None
            return self.ended


def test_without_a_fault_nothing_changes(
    client: httpx.Client, control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, maps: str
) -> None:
    direct = httpx.Client(
        base_url=control_plane.url,
        verify=_admin_tls(control_plane),
    )
    assert client.post(maps, json=config_map("a", k="v")).status_code == 201
    with direct:
        assert client.get(f"{maps}/a").json() == direct.get(f"{maps}/a").json()
        assert client.get(f"{maps}/none").json() == direct.get(f"{maps}/none").json()
    assert [(seen.verb, seen.resource, seen.name, seen.status) for seen in fault_proxy.requests] == [
        ("create", "configmaps", "a", 201),
        ("get", "configmaps", "a", 200),
        ("get", "configmaps", "none", 404),
    ]
    assert [seen.name for seen in fault_proxy.writes("configmaps")] == ["a"]


def _admin_tls(cluster: Cluster) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=str(cluster.certs.authority.cert))
    tls.load_cert_chain(cluster.certs.admin.cert, cluster.certs.admin.key)
    return tls


def test_kubectl_works_through_the_proxy(fault_proxy: KubeFaultProxy, control_plane: Cluster, namespace: str) -> None:
    from testbed.binaries import ensure

    kubectl = [str(ensure("kubectl")), "--kubeconfig", str(fault_proxy.kubeconfig), "-n", namespace]
    subprocess.run([*kubectl, "create", "configmap", "made", "--from-literal=a=b"], check=True, capture_output=True)
    assert names(control_plane, namespace) == {"made"}


def test_a_bearer_token_keeps_its_own_rights(client: httpx.Client, control_plane: Cluster, namespace: str) -> None:
    token = control_plane.kubectl("-n", namespace, "create", "token", "default").strip()
    path = f"/api/v1/namespaces/{namespace}/secrets"
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 403


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Refuse(403), "Forbidden"),
        (Refuse(409), "AlreadyExists"),
        (Refuse(410), "Expired"),
        (Refuse(429, retry_after=7), "TooManyRequests"),
        (Refuse(500), "InternalError"),
        (Refuse(503), "ServiceUnavailable"),
        (Refuse(504), "Timeout"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Refuse) else value,
)
def test_the_nth_write_is_refused_and_nothing_else(
    client: httpx.Client,
    control_plane: Cluster,
    fault_proxy: KubeFaultProxy,
    namespace: str,
    maps: str,
    fault: Refuse,
    reason: str,
) -> None:
    injection = fault_proxy.inject(fault, verb="write", resource="configmaps", nth=2)
    answers = [client.post(maps, json=config_map(name)) for name in ("a", "b", "c")]
    assert [answer.status_code for answer in answers] == [201, fault.status, 201]
    assert answers[1].json()["kind"] == "Status"
    assert answers[1].json()["reason"] == reason
    assert answers[1].headers.get("Retry-After") == (str(fault.retry_after) if fault.retry_after else None)
    assert names(control_plane, namespace) == {"a", "c"}
    assert (injection.matched, injection.hits) == (3, 1)
    assert [(seen.name, seen.sent, seen.fault) for seen in fault_proxy.writes()] == [
        ("a", True, ""),
        ("b", False, "Refuse"),
        ("c", True, ""),
    ]


def test_a_fault_meets_only_what_was_asked_for(
    client: httpx.Client, fault_proxy: KubeFaultProxy, namespace: str, maps: str
) -> None:
    fault_proxy.inject(Refuse(500), verb="delete", resource="configmaps", namespace=namespace, name="b", times=None)
    for name in ("a", "b"):
        assert client.post(maps, json=config_map(name)).status_code == 201
    assert client.delete(f"{maps}/a").status_code == 200
    assert [client.delete(f"{maps}/b").status_code for _ in range(3)] == [500] * 3
    fault_proxy.clear()
    assert client.delete(f"{maps}/b").status_code == 200


def test_a_dry_run_is_no_write(client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str) -> None:
    fault_proxy.inject(Refuse(500), verb="write")
    assert client.post(maps, params={"dryRun": "All"}, json=config_map("a")).status_code == 201
    assert client.post(maps, json=config_map("a")).status_code == 500


def test_a_cut_request_never_reaches_the_server(
    client: httpx.Client, control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, maps: str
) -> None:
    fault_proxy.inject(Cut(), verb="create", resource="configmaps")
    with pytest.raises(BROKEN):
        client.post(maps, json=config_map("a"))
    assert names(control_plane, namespace) == set()


def test_a_lost_reply_was_applied(
    client: httpx.Client, control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, maps: str
) -> None:
    fault_proxy.inject(LostReply(), verb="create", resource="configmaps")
    with pytest.raises(BROKEN):
        client.post(maps, json=config_map("a"))
    assert names(control_plane, namespace) == {"a"}
    assert fault_proxy.writes()[0].sent
    assert fault_proxy.writes()[0].status is None


def test_a_doubled_write_answers_with_the_second_reply(
    client: httpx.Client, control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, maps: str
) -> None:
    fault_proxy.inject(Twice(), verb="create")
    assert client.post(maps, json=config_map("a")).status_code == 409
    assert names(control_plane, namespace) == {"a"}


def test_a_delayed_request_outlasts_the_patience_of_its_client(
    client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str
) -> None:
    fault_proxy.inject(Delay(5), verb="list")
    with pytest.raises(httpx.ReadTimeout):
        client.get(maps, timeout=0.3)
    assert client.get(maps).status_code == 200


@pytest.mark.parametrize(("when", "left"), [("before", {"a"}), ("after", {"a", "b"})])
def test_a_client_is_killed_at_its_nth_write(
    control_plane: Cluster, fault_proxy: KubeFaultProxy, namespace: str, maps: str, when: Any, left: set[str]
) -> None:
    code = f"""
import ssl, sys, httpx
sys.stdin.readline()
tls = ssl.create_default_context(cafile={str(control_plane.certs.authority.cert)!r})
for name in "abc":
    body = dict(apiVersion="v1", kind="ConfigMap", metadata=dict(name=name))
    httpx.post({fault_proxy.url + maps!r}, json=body, verify=tls)
"""
    victim = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    fault_proxy.inject(Kill(lambda: os.kill(victim.pid, signal.SIGKILL), when), verb="write", nth=2)
    victim.communicate("go\n", timeout=60)
    assert victim.returncode == -signal.SIGKILL
    assert names(control_plane, namespace) == left


@pytest.mark.parametrize(
    ("fault", "passed", "end"),
    [
        (CutStream(after=1), ["a"], "broken"),
        (EndStream(after=1), ["a"], "whole"),
        (gone(after=1), ["a", "410"], "whole"),
        (gone(), ["410"], "whole"),
    ],
    ids=["cut", "end", "gone after one", "gone at once"],
)
def test_a_watch_ends_early(
    client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str, fault: Fault, passed: list[str], end: str
) -> None:
    fault_proxy.inject(fault, verb="watch", resource="configmaps")
    watch = Watch(client, maps)
    for name in ("a", "b"):
        client.post(maps, json=config_map(name))
    assert watch.end() == end
    assert [name for _, name in watch.events] == passed


def test_a_silent_watch_stays_open_and_says_nothing(
    client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str
) -> None:
    fault_proxy.inject(SilentStream(after=1), verb="watch")
    watch = Watch(client, maps, timeoutSeconds="1")
    heard = Watch(client, maps)
    for name in ("a", "b"):
        client.post(maps, json=config_map(name))
    heard.until(2)
    assert watch.events == [("ADDED", "a")]
    assert watch.ended is None
    fault_proxy.clear()
    assert watch.end() == "broken"
    fault_proxy.cut_watches()


def test_hidden_and_repeated_events(client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str) -> None:
    fault_proxy.inject(HideLines(count=1, after=1), verb="watch")
    hiding = Watch(client, maps)
    fault_proxy.inject(RepeatLines(), verb="watch")
    repeating = Watch(client, maps)
    for name in ("a", "b", "c"):
        client.post(maps, json=config_map(name))
    assert [name for _, name in hiding.until(2)] == ["a", "c"]
    assert [name for _, name in repeating.until(6)] == ["a", "a", "b", "b", "c", "c"]
    fault_proxy.cut_watches()


def test_a_slow_watch_still_brings_everything(client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str) -> None:
    fault_proxy.inject(SlowStream(0.2), verb="watch")
    watch = Watch(client, maps)
    for name in ("a", "b"):
        client.post(maps, json=config_map(name))
    assert [name for _, name in watch.until(2)] == ["a", "b"]
    fault_proxy.cut_watches()


@pytest.mark.parametrize(
    ("order", "end", "last"),
    [
        (KubeFaultProxy.cut_watches, "broken", []),
        (KubeFaultProxy.expire_watches, "whole", [("ERROR", "410")]),
    ],
    ids=["cut", "expire"],
)
def test_open_watches_are_broken_on_order(
    client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str, order: Any, end: str, last: list[tuple[str, str]]
) -> None:
    watch = Watch(client, maps)
    client.post(maps, json=config_map("a"))
    watch.until(1)
    assert order(fault_proxy, "secrets") == 0
    assert order(fault_proxy, "configmaps") == 1
    assert watch.end() == end
    assert watch.events == [("ADDED", "a"), *last]


def test_open_watches_fall_silent_on_order(client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str) -> None:
    silent = Watch(client, maps)
    assert fault_proxy.silence_watches("configmaps") == 1
    heard = Watch(client, maps)
    client.post(maps, json=config_map("a"))
    heard.until(1)
    assert silent.events == []
    assert silent.ended is None
    fault_proxy.cut_watches()


def test_a_server_that_is_down_refuses_and_comes_back_on_the_same_port(
    client: httpx.Client, fault_proxy: KubeFaultProxy, maps: str
) -> None:
    watch = Watch(client, maps)
    fault_proxy.down()
    assert watch.end() == "broken"
    with pytest.raises(httpx.ConnectError):
        client.get(maps)
    fault_proxy.up()
    assert client.get(maps).status_code == 200
