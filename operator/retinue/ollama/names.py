"""Model names and versions as Ollama reads them: two spellings of one model must compare equal."""

from typing import Final

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"


def canonical(name: str) -> str:
    """`host/namespace/model:tag` in lower case with Ollama's defaults filled in.

    Ollama lists a model in its shortest spelling and finds it in any case, so names are compared in this form only.
    """
    tag = DEFAULT_TAG
    rest = name.partition("://")[2] or name
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    parts = rest.rsplit("/", 2)
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[0] if len(parts) > 2 else DEFAULT_HOST
    return f"{host}/{namespace}/{model}:{tag or DEFAULT_TAG}".lower()


def same_digest(left: str, right: str) -> bool:
    """Whether two digests are equal; Ollama writes them without the `sha256:` that registries put in front."""
    return bool(left) and left.lower().removeprefix("sha256:") == right.lower().removeprefix("sha256:")


def with_algorithm(digest: str) -> str:
    """A digest as registries and our objects write it, `sha256:` in front; empty stays empty."""
    return digest if not digest or digest.startswith("sha256:") else f"sha256:{digest}"


def parse_version(version: str) -> tuple[int, int, int]:
    """The numbers of a version; suffixes like `-rc2` do not count. What is no version becomes (0, 0, 0)."""
    numbers: list[int] = []
    for part in version.strip().lstrip("v").split("-", 1)[0].split("+", 1)[0].split(".")[:3]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return major, minor, patch
