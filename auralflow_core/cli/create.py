"""`auralflow create`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("create")
@click.argument("session")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder to make the session in (default: here).",
)
def create(session: str, save: Path) -> None:
    """Create a session: a folder of models that share their TensorBoard runs.

    Make models in it with `auralflow config NAME TYPE --save SESSION`.
    """
    import json

    from auralflow_core.errors import ConfigError
    from auralflow_core.files import write_text
    from auralflow_core.layout import SESSION_FILE

    folder = save / session
    if (folder / SESSION_FILE).exists():
        raise ConfigError(f"{folder}: is a session already; choose another name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; choose another name")
    write_text(folder / SESSION_FILE, json.dumps({"name": session}) + "\n")
    (folder / "runs").mkdir()
    click.echo(f"Created session {folder}. Next: auralflow config NAME TYPE --save {folder}")
