"""An external Ollama server: no pods, the same questions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import MODEL_DIGEST, OTHER_DIGEST, make_model_server
from retinue.domain.external_decision import ExternalView, ObservedExternal, decide_external
from retinue.domain.model_status import Demand
from retinue.domain.plan import Plan
from retinue.resources.platform import PlatformConfig
from retinue.resources.v1alpha1.modelserver import ModelServer

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)
PLATFORM = PlatformConfig.model_validate(
    {
        "agentImage": "retinue:0.1.0",
        "defaultProfile": "small-cpu",
        "profiles": [{"name": "small-cpu", "image": "i"}],
        "modelRegistries": [{"host": "registry.ollama.ai", "default": True}],
        "externalServers": [{"name": "workstation", "url": "http://10.0.0.5:11434"}],
    }
)
USER = Demand("bots-dev", "support-bot", 2, 3600)
WELL = ExternalView(reachable=True, digest=MODEL_DIGEST, warm=True)


def decide(
    view: ExternalView | None, status: Any = None, demands: tuple[Demand, ...] = (USER,), after: int = 0
) -> Plan:
    server = ModelServer.from_object(make_model_server(external_server="workstation", status=status))
    return decide_external(ObservedExternal(server, PLATFORM, demands, view), NOW + timedelta(seconds=after))


def found(plan: Plan) -> dict[str, tuple[str, str]]:
    assert plan.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in plan.status["conditions"]}


def test_a_server_that_has_the_model_and_gave_a_token_is_ready_for_all_who_want_it() -> None:
    plan = decide(WELL)
    assert plan.apply == ()
    assert found(plan)["Ready"] == ("True", "ExternalServerReady")
    assert {found(plan)[kind][0] for kind in ("ModelPresent", "ModelMatched", "Warm")} == {"True"}
    assert plan.status is not None
    assert (plan.status["desiredReplicas"], plan.status["readyReplicas"]) == (2, 2)
    assert plan.requeue_after is None


def test_a_second_look_at_the_same_writes_the_same_status() -> None:
    first = decide(WELL)
    assert decide(WELL, first.status, after=60).status == first.status


@pytest.mark.parametrize(
    ("view", "kind", "reason"),
    [
        (None, "Reconciling", "Asking"),
        (ExternalView(reachable=False, error="connection refused"), "Reconciling", "ExternalServerUnreachable"),
        (ExternalView(reachable=True), "Stalled", "ModelUnknown"),
        (ExternalView(reachable=True, digest=OTHER_DIGEST), "Stalled", "DigestDiffers"),
        (ExternalView(True, digest=MODEL_DIGEST, token_error=("LoadFailed", "x")), "Reconciling", "LoadFailed"),
        (ExternalView(True, digest=MODEL_DIGEST), "Reconciling", "Warming"),
    ],
)
def test_what_is_wrong_with_a_server_is_told_apart(view: ExternalView | None, kind: str, reason: str) -> None:
    plan = decide(view)
    assert found(plan)[kind] == ("True", reason)
    assert plan.status is not None
    assert plan.status["readyReplicas"] == 0


def test_a_wrong_digest_is_never_matched() -> None:
    assert found(decide(ExternalView(True, digest=OTHER_DIGEST)))["ModelMatched"] == ("False", "DigestDiffers")


def test_a_server_that_nobody_uses_is_forgotten_after_a_while() -> None:
    unused = decide(WELL, demands=())
    assert unused.status is not None
    assert unused.delete == ()
    gone = decide(WELL, unused.status, demands=(), after=600)
    assert [d.kind for d in gone.delete] == ["ModelServer"]


def test_a_server_that_is_not_listed_any_more_says_so() -> None:
    bare = PLATFORM.model_copy(update={"external_servers": []})
    server = ModelServer.from_object(make_model_server(external_server="workstation"))
    plan = decide_external(ObservedExternal(server, bare, (USER,), None), NOW)
    assert found(plan)["Stalled"] == ("True", "ExternalServerUnknown")


def test_after_a_restart_nothing_is_written_before_the_server_has_been_asked() -> None:
    assert decide(None, decide(WELL).status).status is None
