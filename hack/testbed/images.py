"""The images of a cluster: retinue itself, Ollama and Postgres, as archives in the cache that a node can import.

An archive is named for the hash of all that went into it, so nothing is built twice and nothing stale is used.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from retinue import __version__
from testbed import images_rootfs, versions
from testbed.binaries import file_lock
from testbed.errors import TestbedError
from testbed.images_engine import Engine, choose_engine, full_name
from testbed.paths import ROOT, cache_dir
from testbed.prepared import key_of, prepare, remove
from testbed.wheelhouse import prepare_wheelhouse

HERE = Path(__file__).parent
_KEPT = 3


@dataclass(frozen=True)
class Recipe:
    """How one image comes about: its tag, what it is made of, and the making."""

    tag: str
    inputs: Callable[[], list[str | Path]]
    make: Callable[[Engine, Path], None]


def build_images(names: Iterable[str] | None = None) -> dict[str, Path]:
    """Archives of the named images (default: all of IMAGES), built if something that goes into them has changed.

    Give each to `Cluster.load_image`. Their tags are in `image_tag(name)`.
    """
    recipes = _recipes()
    wanted = list(names) if names is not None else list(recipes)
    engine = choose_engine()
    return {name: _archive(name, recipes[name], engine) for name in wanted}


def image_tag(name: str) -> str:
    """The name under which a pod asks for the image, as in the chart's values."""
    return _recipes()[name].tag


def _recipes() -> dict[str, Recipe]:
    pins = versions.load()["images"]
    return {
        "retinue": Recipe(f"retinue:{__version__}", _retinue_inputs, _make_retinue),
        "ollama": Recipe(str(pins["ollama"]), _ollama_inputs, _make_ollama),
        "postgres": Recipe(str(pins["postgres"]), _postgres_inputs, _make_postgres),
    }


IMAGES = ("retinue", "ollama", "postgres")


def _archive(name: str, recipe: Recipe, engine: Engine) -> Path:
    folder = cache_dir() / "images"
    key = key_of([full_name(recipe.tag), engine.name, *recipe.inputs()])

    def make(partial: Path) -> None:
        # One build at a time: they share dist/wheelhouse and the engine's storage.
        with file_lock(folder / ".engine.lock", "another process builds images"):
            recipe.make(engine, partial)

    made = prepare(folder / f"{name}-{key}.tar", f"building image {recipe.tag} with {engine.name}", make, lock=name)
    os.utime(made)
    for old in sorted(folder.glob(f"{name}-*.tar"), key=lambda file: file.stat().st_mtime)[:-_KEPT]:
        remove(old)
    return made


def _base_inputs() -> list[str | Path]:
    return [repr(sorted(versions.load()["debian"].items())), HERE / "images_rootfs.py"]


def _retinue_inputs() -> list[str | Path]:
    sources = ["Dockerfile", ".dockerignore", "requirements.lock", "pyproject.toml", "README.md", "operator/retinue"]
    return [*(ROOT / source for source in sources), *_base_inputs(), str(versions.load()["images"]["base"])]


def _ollama_inputs() -> list[str | Path]:
    pins = versions.load()["ollama"]
    return [HERE / "images" / "ollama", repr(sorted(pins.items())), HERE / "images_rootfs.py", HERE / "ollama_build.py"]


def _postgres_inputs() -> list[str | Path]:
    return [HERE / "images" / "postgres", *_base_inputs()]


def _make_retinue(engine: Engine, target: Path) -> None:
    key = key_of(_base_inputs())
    rootfs = cache_dir() / "images" / f"base-{key}.rootfs.tar"
    base = str(versions.load()["images"]["base"])
    engine.provide_base(
        base, key, lambda: prepare(rootfs, "making a Debian base", images_rootfs.python_base, lock="base")
    )
    prepare_wheelhouse()
    engine.build(ROOT, image_tag("retinue"), target)


def _make_ollama(engine: Engine, target: Path) -> None:
    if engine.reaches_registries:
        engine.fetch(image_tag("ollama"), target)
    else:
        _make_stand_in(engine, "ollama", images_rootfs.ollama, target)


def _make_postgres(engine: Engine, target: Path) -> None:
    if engine.reaches_registries:
        engine.fetch(image_tag("postgres"), target)
    else:
        _make_stand_in(engine, "postgres", images_rootfs.postgres, target)


def _make_stand_in(engine: Engine, name: str, make_rootfs: Callable[[Path], None], target: Path) -> None:
    context = cache_dir() / "images" / f".{name}.context"
    remove(context)
    shutil.copytree(HERE / "images" / name, context)
    try:
        make_rootfs(context / "rootfs.tar")
        engine.build(context, image_tag(name), target)
    finally:
        remove(context)


def main() -> None:
    """Command line of hack/images."""
    parser = argparse.ArgumentParser(prog="hack/images", description="Build the images of a cluster into the cache.")
    choices = [*IMAGES, "all", "wheelhouse"]
    parser.add_argument("name", nargs="?", default="all", choices=choices, help="wheelhouse: only fill dist/wheelhouse")
    chosen = parser.parse_args().name
    try:
        if chosen == "wheelhouse":
            print(prepare_wheelhouse())
            return
        for name, archive in build_images(IMAGES if chosen == "all" else [chosen]).items():
            print(f"{image_tag(name)}\t{archive}")
    except TestbedError as error:
        sys.exit(f"hack/images: {error}")


if __name__ == "__main__":
    main()
