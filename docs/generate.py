"""Write the pages that come out of the code: the command line and the settings.

python docs/generate.py           fail if a page is out of date
python docs/generate.py --write   write them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from pydantic import BaseModel

from auralflow_core.build import build_network, default_config
from auralflow_core.cli import main as auralflow
from auralflow_core.cli.show_model import setting_row
from auralflow_core.config import Config
from auralflow_core.config.settings import OLDER_NAMES
from auralflow_core.known_types import PACKAGES
from auralflow_core.registry import default_registry

DOCS = Path(__file__).parent
MOST_SETTINGS = 12
NOTE = "<!-- Written by docs/generate.py; change the code, then run `nox -s docs -- --write`. -->\n"


def cli_page() -> str:
    """The reference of the command line."""
    context = click.Context(auralflow, info_name="auralflow", terminal_width=78, **auralflow.context_settings)
    parts = ["# Command line\n", NOTE, f"```text\n{auralflow.get_help(context)}\n```\n"]
    for name, command in sorted(auralflow.commands.items()):
        inner = click.Context(command, context, info_name=name)
        parts.append(f"## auralflow {name}\n\n```text\n{command.get_help(inner)}\n```\n")
        for word, part in sorted(getattr(command, "commands", {}).items()):
            innermost = click.Context(part, inner, info_name=word)
            parts.append(f"### auralflow {name} {word}\n\n```text\n{part.get_help(innermost)}\n```\n")
    parts.append((DOCS / "cli-notes.md").read_text(encoding="utf-8"))
    return "\n".join(parts)


def settings_page() -> str:
    """The reference of the settings."""
    parts = [(DOCS / "config-notes.md").read_text(encoding="utf-8"), NOTE]
    for name, field in Config.model_fields.items():
        parts.append(f"## {name}\n\n{(field.annotation.__doc__ or '').splitlines()[0]}\n")
        parts.append("\n".join(table(field.annotation)) + "\n")
    older = ", ".join(f"`{old}` (`{new}`)" for old, new in OLDER_NAMES.items())
    parts.append(f"## Older names\n\nThese names of older documents are accepted too: {older}.\n")
    return "\n".join(parts)


def models_page() -> str:
    """The table of the project's own architectures: facts from the registry, figures from benchmarks/models.py."""
    measured = _measured()
    columns = ["type", "plugin", "domain", "parameters", "settings", *(measured["columns"] if measured else ())]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for entry in default_registry().models:
        if entry.plugin not in PACKAGES.values():
            continue
        cells = [
            "<br>".join([f"`{entry.name}`", *(f"alias `{alias}`" for alias in entry.aliases)]),
            f"[{entry.plugin}](../plugins/{entry.plugin})",
            entry.domain,
            f"{parameter_count(entry.name) / 1e6:.1f} M",
            named(list(entry.load_params().model_fields), f"auralflow show-model {entry.name}"),
            *(measured["models"].get(entry.name, "-" * len(measured["columns"])) if measured else ()),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    notes = (DOCS / "models-notes.md").read_text(encoding="utf-8")
    return "\n".join([notes, NOTE, *rows, "", *([measured["notes"]] if measured else ())])


def named(settings: list[str], command: str) -> str:
    """The settings by name; of more than a cell can hold, the first ones."""
    shown = ", ".join(f"`{name}`" for name in settings[:MOST_SETTINGS])
    return f"{shown} and {len(settings) - MOST_SETTINGS} more: `{command}`" if len(settings) > MOST_SETTINGS else shown


def parameter_count(type_: str) -> int:
    """The number of parameters with default settings, counted without memory for them."""
    with torch.device("meta"):
        network = build_network(default_config(type_, "model"))
    return sum(parameter.numel() for parameter in network.parameters())


def _measured() -> dict[str, Any] | None:
    """What benchmarks/models.py wrote, as columns of text; nothing before its first run."""
    path = DOCS / "models.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    conditions = found["conditions"]
    songs = conditions["songs"]
    notes = (
        f"Training and separation: seconds of audio in a second, {conditions['threads']} threads of a CPU, torch "
        f"{conditions['torch']}. SDR: vocals in dB, museval's median over frames and then over {songs['test']} test "
        f"songs, after {conditions['minutes']:g} minutes of training with the default settings on {songs['train']} "
        "rendered songs; mixture: the score of the mixture itself. Minutes on a CPU are enough to compare how fast "
        "models learn, not how good they get. All in one run of `benchmarks/models.py`; -: not part of it.\n"
    )
    names = ("training", "separation", "sdr", "mixture_sdr")
    models = {type_: [f"{figures[name]:.2f}" for name in names] for type_, figures in found["models"].items()}
    return {"columns": ["training", "separation", "SDR", "mixture"], "models": models, "notes": notes}


def table(schema: Any) -> Iterator[str]:
    """Yield the rows of a group's table."""
    assert issubclass(schema, BaseModel)
    yield "| setting | type | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in schema.model_fields.items():
        cells = [cell.replace("|", "\\|") for cell in setting_row(name, field)]
        yield f"| `{cells[0]}` | " + " | ".join(cells[1:]) + " |"


def run() -> int:
    """Compare or write the pages; return the exit status."""
    stale = []
    for name, text in {"cli.md": cli_page(), "config.md": settings_page(), "models.md": models_page()}.items():
        path = DOCS / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--write" in sys.argv:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    if stale and "--write" not in sys.argv:
        print(f"out of date: {', '.join(stale)}; run `nox -s docs -- --write`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
