"""`auralflow init-data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.init_data import Proposal

_MOST_SONGS, _MOST_DOUBTS = 30, 30


@click.command("init-data")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--save", type=click.Path(path_type=Path), help="Description file to write (FOLDER/auralflow-data.json; or .yaml)."
)
@click.option("--valid", default=0.2, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Share of the training songs kept for validation where no folder says which.")  # fmt: skip
@click.option("--test", default=0.0, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Share of the songs kept for test where no folder says which.")  # fmt: skip
@click.option("--stems", default="auto", show_default=True, metavar="auto|own|NAMES",
              help="Stems that files are summed into, others into `other`; own: each file is a stem; auto: "
              "vocals,drums,bass,other where there are tracks such as `Kick` or `Lead Vox`, else own.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--force", is_flag=True, help="Replace a description that is there.")
def init_data(folder: Path, save: Path | None, valid: float, test: float, stems: str, yes: bool, force: bool) -> None:
    """Propose what the audio files in FOLDER are: songs, stems and splits.

    After confirmation the proposal is written to a description file that `auralflow train MODEL FOLDER` reads and that
    can be edited. Nothing is moved or changed.
    """
    import shlex

    from auralflow_core.data.described import DESCRIPTION_NAMES, write_description
    from auralflow_core.errors import DataError
    from auralflow_core.init_data import propose, read_stems

    path = save or folder / DESCRIPTION_NAMES[0]
    if path.name not in DESCRIPTION_NAMES:
        path = path / DESCRIPTION_NAMES[0] if path.is_dir() else path
    if path.name not in DESCRIPTION_NAMES:
        raise DataError(f"{path}: is not read by training; name it {' or '.join(DESCRIPTION_NAMES)}")
    if path.exists() and not force:
        raise DataError(f"{path}: exists already; edit it, or replace it with --force")
    proposal = propose(folder, valid=valid, test=test, stems=read_stems(stems))
    _show(proposal, folder)
    if not yes:
        click.confirm(f"Write {path}?", abort=True)
    write_description(path, proposal.songs)
    click.echo(f"Wrote {path}. Train with: auralflow train MODEL {shlex.quote(str(path.parent))}")


def _show(proposal: Proposal, folder: Path) -> None:
    import os

    from auralflow_core.cli.output import print_table

    def shown(files: Path | tuple[Path, ...] | None) -> str:
        parts = (files,) if isinstance(files, Path) else files or ()
        return " + ".join(os.path.relpath(path, folder) for path in parts) or "(sum of the stems)"

    print_table(
        f"{len(proposal.songs)} song{'s' * (len(proposal.songs) != 1)} in {folder}",
        ("split", "song", "stem", "file"),
        [
            (song.split, song.name, stem, shown(path))
            for song in proposal.songs[:_MOST_SONGS]
            for stem, path in {"(mixture)": song.mixture, **song.stems}.items()
        ],
    )
    if len(proposal.songs) > _MOST_SONGS:
        click.echo(f"… and {len(proposal.songs) - _MOST_SONGS} more songs")
    if proposal.doubts:
        click.echo("Please check:")
        for line in proposal.doubts[:_MOST_DOUBTS]:
            click.echo(f"  {line}")
    if len(proposal.doubts) > _MOST_DOUBTS:
        click.echo(f"  … and {len(proposal.doubts) - _MOST_DOUBTS} more lines like these")
