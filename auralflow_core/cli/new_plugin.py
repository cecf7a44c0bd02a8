"""`auralflow new-plugin`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--save", type=click.Path(path_type=Path), default=Path(), help="Folder to make the plugin in (default: here)."
)
def new_plugin(name: str, save: Path) -> None:
    """Write a complete, tested plugin distribution: auralflow-NAME.

    It holds one small architecture to start from; `docs/plugins.md` explains each part.
    """
    from auralflow_core.scaffold import PluginNames, write_plugin

    names = PluginNames.of(name)
    folder = save / names.distribution
    write_plugin(names, folder)
    click.echo(f"Wrote {folder}. Next:\n  cd {folder}\n  pip install -e . pytest && pytest\n  auralflow list-models")
