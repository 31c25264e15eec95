"""`./hack/gen [--check]`: the command."""

import argparse
import sys
from pathlib import Path

from generate import chart_readme, code_map, conditions, crds, presets, reference
from generate.files import Files, difference, stale, write

ROOT = Path(__file__).resolve().parents[2]
GENERATORS = (chart_readme, code_map, conditions, crds, presets, reference)


def generated() -> tuple[Files, dict[str, str]]:
    """All files and the folders that hold nothing but generated ones."""
    files: Files = {}
    owned: dict[str, str] = {}
    for generator in GENERATORS:
        files |= generator.files()
        owned |= generator.OWNED
    return files, owned


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: all is as generated (now); 1: --check found a difference."""
    parser = argparse.ArgumentParser(prog="./hack/gen", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; show the difference and fail if there is one"
    )
    check = parser.parse_args(arguments).check
    files, owned = generated()
    changed = stale(ROOT, files, owned)
    for path in changed:
        if check:
            sys.stdout.write(difference(ROOT, path, files))
        else:
            write(ROOT, path, files)
            print(path)
    if check and changed:
        print(f"{len(changed)} generated files differ: run ./hack/gen and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
