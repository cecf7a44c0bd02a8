"""`python -m auralflow_conformer NAME` prints the path of a configuration that comes with the plugin."""

from __future__ import annotations

import sys
from pathlib import Path

from auralflow_core.errors import did_you_mean

FOLDER = Path(__file__).with_name("presets")


def main(words: list[str]) -> int:
    """Print a path, or the names that there are."""
    paths = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if len(words) == 1 and words[0] in paths:
        print(paths[words[0]])
        return 0
    wrong = f"{' '.join(words)!r}: no such configuration{did_you_mean(' '.join(words), paths)}\n" if words else ""
    print(f"{wrong}usage: python -m auralflow_conformer {{{','.join(paths)}}}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
