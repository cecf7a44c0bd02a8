"""`auralflow cache`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

FOLDER = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that training_cache or validation_cache names; default: the one in the platform's cache folder.",
)


@click.group("cache")
def cache() -> None:
    """Show, clear or fill the folder where compressed songs are kept decoded.

    Training decodes MP3, FLAC, Ogg, M4A and .stem.mp4 once and reads its chunks from there; WAV needs none of it.
    """


@cache.command("list")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
def list_entries(folder: Path | None, as_json: bool) -> None:
    """Show what is kept, and how large it is."""
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.data.cache import SongCache

    kept = SongCache(folder)
    entries = kept.entries()
    total = sum(entry.num_bytes for entry in entries)
    if as_json:
        rows = [{**vars(entry), "folder": str(entry.folder)} for entry in entries]
        print_json({"folder": str(kept.folder), "num_bytes": total, "entries": rows})
        return
    if entries:
        rows_shown = [
            (entry.num_bytes / 1e6, "current" if entry.is_current else "stale", entry.decoding, entry.source)
            for entry in entries
        ]
        print_table("", ("MB", "state", "stream", "file"), rows_shown)
    click.echo(f"{kept.folder}: {len(entries)} entries, {total / 1e6:.1f} MB")


@cache.command("clear")
@FOLDER
def clear(folder: Path | None) -> None:
    """Remove what is kept; it is decoded anew when it is needed."""
    from auralflow_core.data.cache import SongCache

    kept = SongCache(folder)
    count, size = len(kept.entries()), kept.clear()
    click.echo(f"Removed {count} entries, {size / 1e6:.1f} MB, from {kept.folder}")


@cache.command("build")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def build(data: Path, model: Path, quiet: bool) -> None:
    """Decode the songs in DATA that a training of MODEL will read, before it."""
    from auralflow_core.config import load_config
    from auralflow_core.data.cache import cached
    from auralflow_core.training import training_songs

    config = load_config(model)
    dataset = config.dataset.model_copy(update={"cache": True})
    train_songs, valid_songs = training_songs(config, data)
    with decoding_bar(quiet=quiet) as told:
        cached(train_songs, dataset, "train", told)
        cached(valid_songs, dataset, "valid", told)
    if not quiet:
        click.echo(f"{len(train_songs)} songs for training and {len(valid_songs)} for validation are ready")


@contextmanager
def decoding_bar(*, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of the files that are decoded, from the first on; yield what has to be told of them."""
    from auralflow_core.cli.output import progress_bar

    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("Decoding", total=None, visible=False, facts="")

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total, facts=f"{done} of {total} files")

        yield told
