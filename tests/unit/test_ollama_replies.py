"""Reading Ollama: names, versions, progress, errors. The error texts are Ollama 0.24's own."""

from typing import Any

import pytest

from retinue.ollama import errors
from retinue.ollama.agent_client import AgentPull, AgentStatus, AgentToken
from retinue.ollama.names import canonical, parse_version, same_digest, with_algorithm
from retinue.ollama.replies import LoadedModel, PullTally, StoredModel

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2", "registry.ollama.ai/library/smollm2:latest"),
        ("smollm2:135m", "registry.ollama.ai/library/smollm2:135m"),
        ("SmolLM2:135M", "registry.ollama.ai/library/smollm2:135m"),
        ("me/mine", "registry.ollama.ai/me/mine:latest"),
        ("registry.ollama.ai/library/smollm2:135m", "registry.ollama.ai/library/smollm2:135m"),
        ("10.0.0.1:5000/library/smollm2:135m", "10.0.0.1:5000/library/smollm2:135m"),
        ("host:5000/library/smollm2", "host:5000/library/smollm2:latest"),
        ("http://host:5000/library/smollm2", "host:5000/library/smollm2:latest"),
    ],
)
def test_names_are_compared_in_one_spelling(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.24.0", (0, 24, 0)),
        ("v0.33.0-rc2", (0, 33, 0)),
        ("1.2", (1, 2, 0)),
        ("0.17.1+build", (0, 17, 1)),
        ("", (0, 0, 0)),
        ("main", (0, 0, 0)),
    ],
)
def test_versions_are_read_without_suffixes(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_version(text) == expected


def test_digests_compare_with_and_without_the_algorithm() -> None:
    assert same_digest("ab", "sha256:AB")
    assert not same_digest("", "")
    assert not same_digest("ab", "ac")
    assert with_algorithm("ab") == with_algorithm("sha256:ab") == "sha256:ab"
    assert with_algorithm("") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pull model manifest: file does not exist", errors.ModelUnknown),
        (
            'pull model manifest: Get "https://nowhere.invalid/v2/": dial tcp: lookup nowhere.invalid: no such host',
            errors.RegistryUnreachable,
        ),
        (
            'pull model manifest: Get "http://127.0.0.1:1/v2/library/x/manifests/latest": dial tcp 127.0.0.1:1: '
            "connect: connection refused",
            errors.RegistryUnreachable,
        ),
        (
            'pull model manifest: Get "https://h:1/v2/": http: server gave HTTP response to HTTPS client',
            errors.RegistryUnreachable,
        ),
        ("pull model manifest: unauthorized: access denied", errors.RegistryDenied),
        ("pull model manifest: 403: denied", errors.RegistryDenied),
        ("write /models/blobs/sha256-1-partial: no space left on device", errors.DiskFull),
        ("max retries exceeded: unexpected EOF", errors.PullFailed),
        ("context canceled", errors.PullFailed),
        ("EOF", errors.PullDamaged),
        ("unexpected EOF", errors.PullDamaged),
        ("invalid character '\\x00' looking for beginning of value", errors.PullDamaged),
        ("pull model manifest: invalid character '<' looking for beginning of value", errors.PullFailed),
        ("digest mismatch, file must be downloaded again: want sha256:1, got sha256:2", errors.PullFailed),
        ("pull model manifest: 500: oops", errors.PullFailed),
    ],
)
def test_the_end_of_a_pull_is_told_from_its_text(text: str, expected: type[errors.OllamaError]) -> None:
    assert type(errors.from_pull(text)) is expected


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (404, "model 'x' not found", errors.ModelUnknown),
        (400, '"x" does not support generate', errors.NotSupported),
        (400, "invalid model name", errors.ModelInvalid),
        (401, "the bearer token is not one that this pod accepts", errors.AccessDenied),
        (503, "server busy, please try again.  maximum pending requests exceeded", errors.OllamaBusy),
        (
            500,
            "model requires more system memory (9.9 GiB) than is available (1.1 GiB)",
            errors.NotEnoughMemory,
        ),
        (500, "llama runner process has terminated: exit status 2", errors.LoadFailed),
        (500, "unable to load model: /models/blobs/sha256-1", errors.LoadFailed),
        (500, "write /models/x: no space left on device", errors.DiskFull),
        (500, "", errors.OllamaError),
    ],
)
def test_a_refused_request_becomes_the_fitting_error(
    status: int, text: str, expected: type[errors.OllamaError]
) -> None:
    assert type(errors.from_reply(status, text)) is expected


def test_an_error_is_one_line_without_signed_links() -> None:
    error = errors.from_pull('Get "https://blobs.example/data?X-Amz-Signature=s3cr3t&x=1":\n unexpected EOF')
    assert str(error) == 'Get "https://blobs.example/data": unexpected EOF'
    assert len(str(errors.PullFailed("x" * 5000))) == errors.MAX_MESSAGE


def test_progress_sums_the_layers_and_never_runs_back() -> None:
    tally = PullTally()
    lines: list[dict[str, Any]] = [
        {"status": "pulling manifest"},
        {"status": "pulling a", "digest": "a", "total": 100},
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 60},
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 40},
        {"status": "pulling b", "digest": "b", "total": 10, "completed": 10},
        {"status": "verifying sha256 digest"},
    ]
    seen = [tally.add(line) for line in lines]
    assert [p.completed_bytes for p in seen] == [0, 0, 60, 60, 70, 70]
    assert [p.total_bytes for p in seen] == [0, 100, 100, 100, 110, 110]
    assert [p.downloading for p in seen] == [True, True, True, True, True, False]


def test_missing_fields_of_a_reply_become_empty() -> None:
    assert StoredModel.read({"name": "x"}) == StoredModel("x", "", 0)
    assert LoadedModel.read({"model": "x", "digest": "ab"}) == LoadedModel("x", "sha256:ab", 0, 0, 0)


def test_an_agent_status_is_read_with_fields_missing_and_unknown() -> None:
    status = AgentStatus.read({"phase": "Starting", "somethingNew": 1})
    assert (status.phase, status.ready, status.pull, status.last_token) == ("Starting", False, None, None)
    status = AgentStatus.read(
        {
            "phase": "Pulling",
            "pull": {"completedBytes": 1, "totalBytes": 2, "startedAt": "t"},
            "lastToken": {"at": "t", "tokensPerSecond": None, "latencyMs": 3.5},
        }
    )
    assert status.pull == AgentPull(1, 2, "t")
    assert status.last_token == AgentToken("t", None, 3.5)
    with pytest.raises(KeyError):
        AgentStatus.read({})
