"""The block of request fields that must be the same on every request to one model server.

Ollama reloads a model when any of these differs from what the loaded runner was started with, so two callers that
disagree make a pod reload its model on every request. The gateway, the agent's preload and the health probe therefore
all send the block that is made here, and a client's own values are dropped.
"""

from typing import Any, Final, Protocol

KEEP_ALIVE_FOREVER: Final = -1
"""Value of `keep_alive` that makes Ollama never unload a model by itself."""

RUNNER_OPTIONS: Final = ("num_ctx", "num_batch", "num_thread", "num_gpu", "use_mmap", "main_gpu")
"""Names under `options` that start another runner when they change. Only the constants may set them."""


class RunnerFields(Protocol):
    """What a revision says about the runner: it changes answers, so it is part of the revision."""

    @property
    def num_ctx(self) -> int | None:
        """Size of the context window in tokens."""
        ...

    @property
    def shift(self) -> bool | None:
        """Whether a full window drops its oldest part and goes on; None leaves Ollama's default."""
        ...


class ProfileFields(Protocol):
    """What a profile of the platform team says about the runner: it changes speed and memory, not answers."""

    @property
    def num_batch(self) -> int | None:
        """Prompt tokens evaluated at once."""
        ...

    @property
    def num_thread(self) -> int | None:
        """CPU threads of the runner."""
        ...

    @property
    def num_gpu(self) -> int | None:
        """Layers that are put on the GPU."""
        ...

    @property
    def use_mmap(self) -> bool | None:
        """Whether the model file is mapped instead of read."""
        ...


def request_constants(runner: RunnerFields, profile: ProfileFields | None) -> dict[str, Any]:
    """The fields that every request to a model server carries: `options`, `keep_alive` and perhaps `shift`.

    `profile` is None for an external server, whose runner settings are not ours. Unset fields are left out, so that
    Ollama's own default stays in force on all requests alike. The result is a fresh dict in Ollama's spelling.
    """
    options: dict[str, Any] = {}
    if runner.num_ctx is not None:
        options["num_ctx"] = runner.num_ctx
    if profile is not None:
        for name in ("num_batch", "num_thread", "num_gpu", "use_mmap"):
            value = getattr(profile, name)
            if value is not None:
                options[name] = value
    constants: dict[str, Any] = {"options": options, "keep_alive": KEEP_ALIVE_FOREVER}
    if runner.shift is not None:
        constants["shift"] = runner.shift
    return constants


def with_constants(request: dict[str, Any], constants: dict[str, Any]) -> dict[str, Any]:
    """A request for Ollama's native API with the constants in it; the constants win.

    Runner options that the request brings and the constants do not name are removed, because they too would make
    Ollama start another runner. `request` is not changed.
    """
    sampling = {k: v for k, v in (request.get("options") or {}).items() if k not in RUNNER_OPTIONS}
    merged = {k: v for k, v in request.items() if k not in ("keep_alive", "shift")}
    merged.update(constants)
    merged["options"] = {**sampling, **constants.get("options", {})}
    return merged
