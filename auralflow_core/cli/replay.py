"""`auralflow replay`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.model import SeparationModel
    from auralflow_core.trainer.replay import Attempt, FedChunk


@click.command("replay")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--step", required=True, type=click.IntRange(min=1), help="Which step, counted from 1.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of the songs, if they are no longer where they were; several times if there were several.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the batch (replay/ in the folder MODEL).")
@click.option("--json", "as_json", is_flag=True, help="Print the chunks as JSON, and nothing else.")
def replay(model: Path, step: int, data: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write the batch of a past training step of MODEL as WAV files: what the network was fed.

    Each chunk has a folder, named after its batch, song and first second, with the mixture and each target, augmented
    as they were; what spec_augment hides is not hidden. Batches that the step was tried with in vain, since their loss
    or gradient was no number, are there too. Losses are those of the nearest checkpoint before the step, in evaluation
    mode.
    """
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.layout import ModelFolder
    from auralflow_core.trainer.journal import Journal, named
    from auralflow_core.trainer.replay import find_attempts, write_chunks

    attempts = find_attempts(Journal(ModelFolder(model).journal), step)
    chunks = [chunk for attempt in attempts for chunk in _fed(attempt, data)]
    judge = _judge(model, step)
    folder = (out or model / "replay") / f"step-{step:08d}"
    rows = write_chunks(folder, chunks, attempts[-1].run.config, partial(_loss, judge) if judge else None)
    if as_json:
        print_json({"folder": str(folder), "chunks": rows})
        return
    losses = [f"{row['loss']:.5f}" if "loss" in row else "" for row in rows]
    cells = [(row["folder"], named(row), loss, row["left_out"] or "") for row, loss in zip(rows, losses, strict=True)]
    print_table("", ("chunk", "made of", "loss", "left out"), cells)
    click.echo(f"Wrote {len(rows)} chunks to {folder}")


def _fed(attempt: Attempt, data: tuple[Path, ...]) -> list[FedChunk]:
    """Return the chunks of an attempt, read from the data set that it was trained with."""
    from auralflow_core.data.cache import cached
    from auralflow_core.errors import DataError
    from auralflow_core.trainer.replay import fed_chunks
    from auralflow_core.training import training_songs

    config, folders = attempt.run.config, data or attempt.run.folders
    if not folders:
        raise DataError("the journal does not say where the songs are; name their folder with --data")
    songs, _ = training_songs(config, folders[0] if len(folders) == 1 else folders)
    return list(fed_chunks(attempt, cached(songs, config.dataset, "train")))


def _judge(folder: Path, step: int) -> SeparationModel | None:
    """Return the model of the nearest checkpoint before a step, or the first one; none if none can be loaded."""
    from auralflow_core.build import load_model
    from auralflow_core.checkpoint import CheckpointStore
    from auralflow_core.errors import AuralflowError
    from auralflow_core.layout import ModelFolder

    steps = CheckpointStore(ModelFolder(folder).checkpoint).steps()
    if not steps:
        return None
    try:
        return load_model(folder, step=max((each for each in steps if each < step), default=steps[0]))
    except AuralflowError as error:
        click.echo(f"Without losses, since no checkpoint can be loaded: {error}", err=True)
        return None


def _loss(model: SeparationModel, chunk: FedChunk) -> float:
    model.set_data(chunk.mixture[None], chunk.targets[None])
    model.test()
    return model.compute_loss()
