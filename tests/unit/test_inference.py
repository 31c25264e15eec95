"""The request constants: the same block for gateway, preload and probe."""

from dataclasses import dataclass
from typing import Any

import pytest

from retinue.domain.inference import request_constants, with_constants
from retinue.resources.platform import Profile

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Runner:
    num_ctx: int | None = None
    shift: bool | None = None


@pytest.mark.parametrize(
    ("runner", "profile", "expected"),
    [
        (Runner(4096), None, {"options": {"num_ctx": 4096}, "keep_alive": -1}),
        (Runner(4096, False), None, {"options": {"num_ctx": 4096}, "keep_alive": -1, "shift": False}),
        (Runner(4096, True), None, {"options": {"num_ctx": 4096}, "keep_alive": -1, "shift": True}),
        (Runner(), Profile(name="cpu", image="i"), {"options": {}, "keep_alive": -1}),
        (
            Runner(8192),
            Profile(name="gpu", image="i", num_batch=512, num_thread=4, num_gpu=0, use_mmap=False),
            {
                "options": {"num_ctx": 8192, "num_batch": 512, "num_thread": 4, "num_gpu": 0, "use_mmap": False},
                "keep_alive": -1,
            },
        ),
    ],
)
def test_only_what_is_set_becomes_a_constant(runner: Runner, profile: Profile | None, expected: dict[str, Any]) -> None:
    assert request_constants(runner, profile) == expected


def test_two_calls_share_no_state() -> None:
    first = request_constants(Runner(4096), None)
    first["options"]["num_ctx"] = 1
    assert request_constants(Runner(4096), None)["options"] == {"num_ctx": 4096}


def test_constants_win_over_the_request_and_sampling_options_stay() -> None:
    request = {
        "model": "m",
        "keep_alive": 0,
        "shift": True,
        "options": {"temperature": 0.2, "num_ctx": 1, "num_gpu": 9, "main_gpu": 1},
    }
    merged = with_constants(request, request_constants(Runner(4096), None))
    assert merged == {"model": "m", "keep_alive": -1, "options": {"temperature": 0.2, "num_ctx": 4096}}
    assert request["keep_alive"] == 0


def test_a_request_without_options_gets_the_constants() -> None:
    merged = with_constants({"model": "m", "options": None}, request_constants(Runner(2048, False), None))
    assert merged == {"model": "m", "keep_alive": -1, "shift": False, "options": {"num_ctx": 2048}}
