"""What the agent does next, as a table: from each state of Ollama exactly one step leads on."""

import pytest

from retinue.agent.decide import Action, Facts, Phase, Wants, backoff, decide, explain
from retinue.ollama.names import canonical
from retinue.ollama.replies import LoadedModel

pytestmark = pytest.mark.unit

GOOD = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
WANTS = Wants(model="smollm2:135m", digest=GOOD, pull_name="registry.local:5000/library/smollm2:135m")
SAME_NAME = Wants(model="smollm2:135m", digest=GOOD, pull_name="smollm2:135m")
ALIAS = canonical(WANTS.pull_name)
PLAIN = canonical(WANTS.model)


def facts(*, version: str = "0.24.0", alias: str = "", plain: str = "", loaded: str = "", vram: int = 0) -> Facts:
    stored = {name: digest for name, digest in ((ALIAS, alias), (PLAIN, plain)) if digest}
    memory = (LoadedModel("smollm2:135m", loaded, 100, vram, 2048),) if loaded else ()
    return Facts(version, stored, memory)


@pytest.mark.parametrize(
    ("seen", "warm", "disk_was_full", "phase", "action"),
    [
        pytest.param(Facts(), False, False, Phase.STARTING, Action.WAIT, id="Ollama is away"),
        pytest.param(Facts(), True, False, Phase.STARTING, Action.WAIT, id="away although it was warm"),
        pytest.param(facts(version="0.17.0"), False, False, Phase.FAILED, Action.REFUSE, id="too old"),
        pytest.param(facts(version="0.0.0"), False, False, Phase.FAILED, Action.REFUSE, id="unknown version"),
        pytest.param(facts(version="0.17.1"), False, False, Phase.PULLING, Action.PULL, id="oldest that may serve"),
        pytest.param(facts(version="0.33.0-rc2"), False, False, Phase.PULLING, Action.PULL, id="newer"),
        pytest.param(facts(), False, False, Phase.PULLING, Action.PULL, id="empty volume"),
        pytest.param(facts(alias=OTHER), False, False, Phase.PULLING, Action.PULL, id="wrong digest is pulled again"),
        pytest.param(facts(plain=OTHER), False, False, Phase.PULLING, Action.PULL, id="wrong digest is never loaded"),
        pytest.param(
            facts(plain=OTHER, loaded=OTHER), True, False, Phase.PULLING, Action.PULL, id="nor served when loaded"
        ),
        pytest.param(facts(alias=OTHER), False, True, Phase.PULLING, Action.DELETE, id="a wrong one makes room"),
        pytest.param(facts(), False, True, Phase.PULLING, Action.PULL, id="nothing to make room with"),
        pytest.param(facts(alias=GOOD), False, False, Phase.VERIFYING, Action.COPY, id="pulled, not yet named"),
        pytest.param(facts(alias=GOOD, plain=OTHER), False, False, Phase.VERIFYING, Action.COPY, id="renames over"),
        pytest.param(facts(alias=GOOD, plain=GOOD), False, False, Phase.VERIFYING, Action.DELETE, id="alias goes"),
        pytest.param(facts(alias=OTHER, plain=GOOD), True, False, Phase.VERIFYING, Action.DELETE, id="any alias goes"),
        pytest.param(facts(plain=GOOD), False, False, Phase.LOADING, Action.PRELOAD, id="full volume: no network"),
        pytest.param(
            facts(plain=GOOD, loaded=OTHER), False, False, Phase.LOADING, Action.PRELOAD, id="other in memory"
        ),
        pytest.param(facts(plain=GOOD, loaded=GOOD), False, False, Phase.WARMING, Action.GENERATE, id="no token yet"),
        pytest.param(facts(plain=GOOD, loaded=GOOD), True, False, Phase.READY, Action.SERVE, id="serves"),
    ],
)
def test_each_state_of_ollama_leads_to_one_step(
    seen: Facts, warm: bool, disk_was_full: bool, phase: Phase, action: Action
) -> None:
    step = decide(WANTS, seen, warm=warm, disk_was_full=disk_was_full)
    assert (step.phase, step.action) == (phase, action)


def test_a_model_that_is_pulled_under_its_own_name_is_not_deleted_as_an_alias() -> None:
    step = decide(SAME_NAME, facts(plain=GOOD, loaded=GOOD), warm=True)
    assert step.action is Action.SERVE


def test_an_old_ollama_is_refused_with_the_version_to_use() -> None:
    step = decide(WANTS, facts(version="0.12.3"), warm=False)
    assert step.reason == "OllamaTooOld"
    assert "0.12.3" in step.message and "0.17.1" in step.message


def test_a_failure_says_what_to_do() -> None:
    assert explain("DiskFull", "no space") == (
        "no space; a ModelServer keeps its volume size: use a profile with a larger storage.size"
    )
    assert explain("SomethingNew", "it broke") == "it broke"


def test_waits_double_up_to_the_longest() -> None:
    assert [backoff(n, 1, 60) for n in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


@pytest.mark.parametrize(("vram", "processor"), [(0, "CPU"), (40, "Mixed"), (100, "GPU"), (120, "GPU")])
def test_the_processor_follows_from_where_the_weights_are(vram: int, processor: str) -> None:
    assert facts(loaded=GOOD, vram=vram).loaded[0].processor == processor
