"""Fails when a file has more than 400 lines: then it holds more than one concept and is to be split."""

import subprocess
import sys
from pathlib import Path

LIMIT = 400


def main() -> int:
    """Print each file that is too long; exit code 1 if there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True
    )
    lengths = {name: len(Path(name).read_text().splitlines()) for name in listed.stdout.split() if Path(name).exists()}
    bad = {name: count for name, count in lengths.items() if count > LIMIT}
    for name, count in sorted(bad.items()):
        print(f"{name}: {count} lines, at most {LIMIT}: split it by concept")
    stray = [name for name in lengths if Path(name).parent == Path("operator")]
    for name in stray:
        print(f"{name}: operator/ is a source root, a Python file in it breaks the standard library's operator module")
    return 1 if bad or stray else 0


if __name__ == "__main__":
    sys.exit(main())
