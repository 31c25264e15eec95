"""Names, platforms and libraries of images; matching of requests and faults. Nothing runs here."""

import json
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.faultproxy_faults import Cut, Injection, Seen
from testbed.faultproxy_kube import classify
from testbed.images_engine import full_name
from testbed.images_rootfs import shared_libraries
from testbed.model_registry_content import nginx_config, registry_config
from testbed.wheelhouse import image_platforms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("tag", "full"),
    [
        ("retinue:0.1.0", "docker.io/library/retinue:0.1.0"),
        ("ollama/ollama:0.24.0", "docker.io/ollama/ollama:0.24.0"),
        ("registry.example:5000/team/retinue:1", "registry.example:5000/team/retinue:1"),
        ("localhost/retinue:1", "localhost/retinue:1"),
    ],
)
def test_a_tag_means_what_a_kubelet_means(tag: str, full: str) -> None:
    assert full_name(tag) == full


def test_wheels_are_chosen_for_the_image_and_not_for_this_machine() -> None:
    platforms = image_platforms("x86_64")
    assert "manylinux_2_28_x86_64" in platforms
    assert "manylinux_2_39_x86_64" not in platforms
    assert "manylinux1_x86_64" not in image_platforms("aarch64")


def test_libraries_are_read_from_ldd() -> None:
    output = (
        "\tlinux-vdso.so.1 (0x00007ffd)\n"
        "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f01)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n"
    )
    assert shared_libraries(output) == [Path("/lib/x86_64-linux-gnu/libm.so.6"), Path("/lib64/ld-linux-x86-64.so.2")]
    with pytest.raises(TestbedError, match=r"lacks: libstdc\+\+\.so\.6"):
        shared_libraries("\tlibstdc++.so.6 => not found\n")


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "resource", "namespace", "name"),
    [
        ("GET", "/api/v1/namespaces", {}, "list", "namespaces", "", ""),
        ("GET", "/api/v1/namespaces/a", {}, "get", "namespaces", "a", "a"),
        ("PUT", "/api/v1/namespaces/a/finalize", {}, "update", "namespaces/finalize", "a", "a"),
        ("GET", "/api/v1/namespaces/a/pods/p/log", {}, "get", "pods/log", "a", "p"),
        ("GET", "/apis/retinue.dev/v1alpha1/assistants", {"watch": "true"}, "watch", "assistants", "", ""),
        ("PATCH", "/apis/retinue.dev/v1alpha1/namespaces/a/assistants/x", {}, "patch", "assistants", "a", "x"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/x/status", {}, "patch", "deployments/status", "a", "x"),
        ("DELETE", "/apis/apps/v1/namespaces/a/statefulsets/s", {}, "delete", "statefulsets", "a", "s"),
        ("DELETE", "/apis/apps/v1/namespaces/a/statefulsets", {}, "deletecollection", "statefulsets", "a", ""),
        ("POST", "/api/v1/namespaces/a/events", {}, "create", "events", "a", "made"),
        ("GET", "/readyz", {}, "get", "/readyz", "", ""),
        ("GET", "/apis/apps/v1", {}, "get", "/apis/apps/v1", "", ""),
    ],
)  # fmt: skip
def test_a_request_is_read_as_the_api_server_reads_it(
    method: str, path: str, query: dict[str, str], verb: str, resource: str, namespace: str, name: str
) -> None:
    seen = classify(1, method, path, query, json.dumps({"metadata": {"name": "made"}}).encode())
    assert (seen.verb, seen.resource, seen.namespace, seen.name) == (verb, resource, namespace, name)


@pytest.mark.parametrize(
    ("wanted", "seen", "matches"),
    [
        ({}, Seen(1, "get", "pods"), True),
        ({"verb": "write"}, Seen(1, "get", "pods"), False),
        ({"verb": "write"}, Seen(1, "patch", "pods"), True),
        ({"verb": "write"}, Seen(1, "patch", "pods", dry_run=True), False),
        ({"resource": "pods"}, Seen(1, "patch", "pods/status"), False),
        ({"resource": "pods/*"}, Seen(1, "patch", "pods/status"), True),
        ({"resource": "pods/*"}, Seen(1, "patch", "pods"), True),
        ({"resource": "pods/*"}, Seen(1, "patch", "podsets"), False),
        ({"namespace": "a", "name": "x"}, Seen(1, "get", "pods", "a", "x"), True),
        ({"namespace": "a", "name": "x"}, Seen(1, "get", "pods", "a", "y"), False),
    ],
)
def test_a_fault_finds_its_requests(wanted: dict[str, str], seen: Seen, matches: bool) -> None:
    assert Injection(Cut(), **wanted).matches(seen) is matches


@pytest.mark.parametrize(
    ("nth", "times", "hit"), [(1, 1, [1]), (3, 1, [3]), (2, 2, [2, 3]), (2, None, [2, 3, 4, 5]), (9, 1, [])]
)
def test_a_fault_meets_the_nth_request_and_as_many_as_asked(nth: int, times: int | None, hit: list[int]) -> None:
    injection = Injection(Cut(), nth=nth, times=times)
    assert [number for number in range(1, 6) if injection.takes(Seen(number, "get", "pods"))] == hit
    assert injection.wait(0) is bool(hit)


def test_the_registry_redirects_blobs_only_where_it_is_told(tmp_path: Path) -> None:
    plain = json.loads(registry_config(tmp_path, "127.0.0.1:1", None))
    redirecting = json.loads(registry_config(tmp_path, "127.0.0.1:1", "http://127.0.0.2:2"))
    assert "middleware" not in plain
    assert redirecting["middleware"]["storage"][0]["options"]["baseurl"] == "http://127.0.0.2:2"


@pytest.mark.parametrize(
    ("rate", "refusal", "expected"), [(0, 0, "data; }"), (9, 0, "limit_rate 9;"), (9, 503, "return 503;")]
)
def test_faults_of_the_blob_server_are_its_own_settings(tmp_path: Path, rate: int, refusal: int, expected: str) -> None:
    config = nginx_config(tmp_path, "127.0.0.2:2", rate=rate, refusal=refusal)
    assert expected in " ".join(config.split()).replace("data;  }", "data; }")
