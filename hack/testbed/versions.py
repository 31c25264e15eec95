"""Versions of every outside part, read from versions.toml: the only place where a version is written down."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from testbed.errors import TestbedError

HERE = Path(__file__).resolve().parent
FILE = HERE / "versions.toml"
MODULES = HERE / "gomod"


@dataclass(frozen=True)
class Tool:
    """One binary that can be built from a committed Go module."""

    name: str
    version: str
    module: str
    package: str
    ldflags: str

    @property
    def minor(self) -> str:
        """`major.minor`: binaries of another patch release of the same minor fit as well."""
        return ".".join(self.version.split(".")[:2])

    @property
    def module_dir(self) -> Path:
        """Where its go.mod and go.sum lie."""
        return MODULES / self.module


@cache
def load() -> dict[str, dict[str, Any]]:
    """All sections of versions.toml."""
    return tomllib.loads(FILE.read_text())


def version(section: str) -> str:
    """The version of one section; TestbedError when there is none."""
    try:
        return str(load()[section]["version"])
    except KeyError:
        raise TestbedError(f"versions.toml has no [{section}] with a version") from None


def tools() -> dict[str, Tool]:
    """Every binary that the testbed can build, by name."""
    found: dict[str, Tool] = {}
    for section, table in load().items():
        for package in table.get("packages", []):
            name = _binary_name(section, package)
            found[name] = Tool(name, str(table["version"]), str(table["module"]), str(package), str(table["ldflags"]))
    return found


def tool(name: str) -> Tool:
    """One buildable binary; TestbedError names the known ones."""
    known = tools()
    if name not in known:
        raise TestbedError(f"unknown tool {name!r}; known are {', '.join(sorted(known))}")
    return known[name]


def _binary_name(section: str, package: str) -> str:
    """`etcd` is built from `.../etcd/server/v3`; every other binary is named as the last part of its package."""
    return section if section == "etcd" else PurePosixPath(package).name
