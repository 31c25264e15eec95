"""The testbed's parts that only compute: versions, addresses, sizes, texts of other programs."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from testbed import binaries, cgroups, containerd, dns, netns, node, packages, state, storage, versions
from testbed.errors import TestbedError
from testbed.netns import Network
from testbed.pki import Authority
from testbed.storage_provisioner import size_bytes, volume_object, wanted

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "minor", "fits"),
    [
        ("Kubernetes v1.34.4", "1.34", True),
        ("Client Version: v1.34.1\nKustomize Version: v5.7.1", "1.34", True),
        ("Client Version: v1.20.0", "1.34", False),
        ("etcd Version: 3.6.5\nGit SHA: Not provided\nGo Version: go1.26.8", "3.6", True),
        ("v3.19.2+g8766e71", "3.19", True),
        ("v3.1.9", "3.19", False),
        ("no version here", "1.34", False),
    ],
)
def test_a_found_binary_fits_when_it_says_the_minor_version(text: str, minor: str, fits: bool) -> None:
    assert binaries.says_minor(text, minor) is fits


def test_every_tool_has_a_pinned_module() -> None:
    for tool in versions.tools().values():
        required = (tool.module_dir / "go.mod").read_text()
        assert (tool.module_dir / "go.sum").exists()
        assert tool.package.startswith("retinue.dev/") or f"v{tool.version}" in required, tool


def test_an_unknown_tool_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TestbedError, match="unknown tool 'kubectx'; known are coredns"):
        versions.tool("kubectx")


@pytest.mark.parametrize(
    ("used", "chosen"),
    [
        ([], 100),
        (["192.0.2.0/24", "127.0.0.1/8"], 100),
        (["10.100.0.1/30"], 101),
        (["10.100.0.0/16", "10.101.64.7"], 102),
        (["10.0.0.0/9"], 128),
    ],
)
def test_a_node_gets_the_first_network_that_overlaps_with_nothing(used: list[str], chosen: int) -> None:
    assert netns.choose(range(100, 200), used) == chosen


def test_a_machine_without_a_free_network_is_told_so() -> None:
    with pytest.raises(TestbedError, match="overlaps with one in use"):
        netns.choose(range(100, 200), ["10.0.0.0/8"])


MOUNTINFO = """25 30 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:24 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
27 25 0:25 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
"""


def test_cgroup_hierarchies_are_read_from_the_mount_table() -> None:
    expected = [("cgroup", Path("/sys/fs/cgroup/memory")), ("cgroup2", Path("/sys/fs/cgroup/unified"))]
    assert cgroups.hierarchies(MOUNTINFO) == expected


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("unpacking docker.io/library/retinue:0.1.0 (sha256:0abc)...done\n", ["docker.io/library/retinue:0.1.0"]),
        ("a.example/x:1     saved\n", []),
        ("unpacking a/x:1 (sha256:1)...done\nunpacking b:5000/y:2 (sha256:2)...done\n", ["a/x:1", "b:5000/y:2"]),
    ],
)
def test_the_names_of_imported_images_are_reported(output: str, names: list[str]) -> None:
    assert containerd.imported_names(output) == names


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("1024", 1024), ("32Mi", 32 * 2**20), ("1.5Gi", 3 * 2**29), ("2G", 2 * 10**9), ("5k", 5000), ("2500m", 2)],
)
def test_sizes_are_read_as_kubernetes_writes_them(quantity: str, size: int) -> None:
    assert size_bytes(quantity) == size


@pytest.mark.parametrize("quantity", ["", "10Mib", "-1", "1e3x"])
def test_a_size_that_is_none_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size_bytes(quantity)


def claim(**spec: Any) -> dict[str, Any]:
    """A claim that was placed on the node `n`."""
    return {
        "metadata": {
            "namespace": "team",
            "name": "data",
            "uid": "u1",
            "annotations": {"volume.kubernetes.io/selected-node": "n"},
        },
        "spec": {
            "storageClassName": storage.CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("one", "node_name", "expected"),
    [
        (claim(), "n", True),
        (claim(), "other", False),
        (claim(volumeName="pvc-u1"), "n", False),
        (claim(storageClassName="fast"), "n", False),
        ({**claim(), "metadata": {"name": "data", "namespace": "team", "uid": "u1"}}, "n", False),
    ],
)
def test_a_volume_is_made_for_placed_claims_of_our_class(one: dict[str, Any], node_name: str, expected: bool) -> None:
    assert wanted(one, node_name) is expected


def test_a_volume_is_bound_to_the_claim_that_it_was_made_for() -> None:
    volume = volume_object(claim(), Path("/volumes/pvc-u1"), "n")
    assert volume["metadata"]["name"] == "pvc-u1"
    assert volume["spec"]["claimRef"]["uid"] == "u1"
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a" * 31, "../x", "a b"])
def test_a_name_that_cannot_be_a_cluster_is_refused(name: str) -> None:
    with pytest.raises(TestbedError, match="lower-case letters"):
        state.checked_name(name)


def test_the_dns_service_has_the_address_that_pods_are_told() -> None:
    network = Network(123)
    [service] = [item for item in dns.manifests(network) if item["kind"] == "Service"]
    assert service["spec"]["clusterIP"] == network.dns_address == "10.123.16.10"


def test_two_folders_never_share_an_identity() -> None:
    names = {node.identity(Path(path)) for path in ("/a/clusters/x", "/b/clusters/x", "/a/clusters/y")}
    assert len(names) == 3
    assert all(len(name) <= 15 for name in names), "longer than the name of an interface may be"


def test_missing_programs_are_named_where_they_cannot_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(TestbedError, match=r"install these packages .*: some-package"):
        packages.ensure({"no-such-program": "some-package"})


def test_certificates_are_signed_by_the_authority_and_kept(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", "web", groups=["g"], hosts=["127.0.0.1", "web.example"])
    certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pair.cert.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web.example"]
    before = pair.cert.read_bytes()
    assert Authority(tmp_path).issue("server", "web").cert.read_bytes() == before
    assert pair.key.stat().st_mode & 0o077 == 0
