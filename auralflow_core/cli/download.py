"""`auralflow download`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--from", "mirror", metavar="DIR|URL", help="Take the files from this folder or from below this URL.")
@click.option("--to", type=click.Path(path_type=Path), help="Make this model folder of the weights, too.")
@click.option("--force", is_flag=True, help="Download again what is there; the copy that is there is kept until then.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--quiet", is_flag=True, help="Print nothing but the licence and errors.")
def download(names: tuple[str, ...], mirror: str | None, to: Path | None, force: bool, yes: bool, quiet: bool) -> None:
    """Download public weights, so that they can be used without the internet.

    \b
    auralflow download umxhq
    auralflow download umxhq --from /media/usb/weights
    auralflow download umxhq --to my_model

    `auralflow list-weights` shows the names. Each file is checked against its SHA-256; a download that broke off
    goes on where it was. A folder of --from holds the files themselves, or is another machine's folder of downloads.
    """  # noqa: D301 - click takes the character for an end of wrapping
    from auralflow_core.build import load_model, save_as_folder
    from auralflow_core.cli.weights import count_files, open_store
    from auralflow_core.errors import ConfigError
    from auralflow_core.registry import default_registry

    if to is not None and len(names) > 1:
        raise click.UsageError("--to takes one NAME.")
    if to is not None and to.exists():
        raise ConfigError(f"{to}: exists already; choose another folder")
    entries = [default_registry().weights.get(name) for name in names]
    with open_store(quiet=quiet, mirror=mirror, ask=sys.stdin.isatty() and not yes) as store:
        for entry in entries:
            store.fetch(entry, force=force)
    if to is not None:
        save_as_folder(load_model(f"{entries[0].name}@{entries[0].plugin}", store=store), to)
    if quiet:
        return
    for entry in entries:
        click.echo(f"{entry.name}: {count_files(entry.files)}, whole and checked, in {store.folder}")
    if to is not None:
        click.echo(f"Made the model folder {to}")
