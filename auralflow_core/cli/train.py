"""`auralflow train`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auralflow_core.cli.arguments import SETTINGS_CONTEXT, split_settings

if TYPE_CHECKING:
    from auralflow_core.cli.training_progress import TrainingProgress
    from auralflow_core.config import Config, Setting
    from auralflow_core.trainer import Summary, Trainer


@click.command("train", context_settings=SETTINGS_CONTEXT)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="MODEL DATA... [--SETTING VALUE]...")
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint.")
@click.option("--from", "start_from", metavar="MODEL", help="Start with the weights of this model, where they fit.")
@click.option("--force", is_flag=True, help="Remove the model's checkpoints and TensorBoard runs, and start over.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
def train(
    arguments: tuple[str, ...], resume: bool, start_from: str | None, force: bool, quiet: bool, as_json: bool
) -> None:
    """Train the model in the folder MODEL with the songs in DATA, one folder or several.

    \b
    auralflow train my_model path/to/musdb18hq --max_epochs 50 --lr 1e-3

    --from another model folder, or the name of public weights, starts a new training with their weights, where they
    fit. --batch_size auto measures how many chunks of a step fit into memory at once. Settings given here are written
    to the model's configuration. The first Ctrl-C saves and stops. On several GPUs or machines: torchrun
    --nproc-per-node N -m auralflow train MODEL DATA.
    """  # noqa: D301 - click takes the character for an end of wrapping
    from auralflow_core.cli.config import change
    from auralflow_core.cli.output import print_json
    from auralflow_core.config import config_path, read_mapping
    from auralflow_core.config.settings import grouped
    from auralflow_core.trainer.distributed import together

    with together() as world:
        positional, settings = split_settings(arguments, len(arguments))
        if len(positional) < 2:
            raise click.UsageError(f"Missing argument {'DATA' if positional else 'MODEL'}.")
        folder, *data = map(Path, positional)
        settings, fits_batch = _without_auto(settings)
        if resume and start_from:
            raise click.UsageError("--resume goes on with the model's own weights; leave out --from, or --resume.")
        if resume and fits_batch:
            raise click.UsageError("--resume goes on with the batches of before; leave out --batch_size auto.")
        quiet = quiet or as_json or not world.is_main
        remark = (lambda line: None) if quiet else click.echo
        before = grouped(read_mapping(config_path(folder)))
        config = change(before, settings, source=config_path(folder), remark=remark)
        roots = data[0] if len(data) == 1 else data
        summary = run_training(
            config, folder, roots, resume=resume, force=force, quiet=quiet, start_from=start_from, fits_batch=fits_batch
        )
    if as_json and world.is_main:
        print_json({"model": str(folder), **vars(summary)})
    if summary.reason == "interrupted":
        if world.is_main:
            command = " ".join(["auralflow train", *positional])
            click.echo(f"Stopped and saved. Go on with: {command} --resume", err=True)
        sys.exit(130)


def _without_auto(settings: list[Setting]) -> tuple[list[Setting], bool]:
    """Return the settings without `--batch_size auto`, and whether it is among them."""
    names = ("batch_size", "training.batch_size")
    others = [each for each in settings if each.name.replace("-", "_") not in names or each.value != "auto"]
    return others, len(others) < len(settings)


def run_training(
    config: Config,
    folder: Path,
    data: Path | Sequence[Path],
    *,
    resume: bool,
    force: bool,
    quiet: bool,
    start_from: str | None = None,
    fits_batch: bool = False,
) -> Summary:
    """Train, with a batch that fits into memory if asked to, and tell what goes on; return what was done.

    The configuration is written to the folder when nothing stands in the way of training any more.
    """
    import shutil

    from auralflow_core.checkpoint import CheckpointStore
    from auralflow_core.cli.cache import decoding_bar
    from auralflow_core.cli.training_progress import TrainingProgress
    from auralflow_core.cli.weights import fetch_weights
    from auralflow_core.config import config_path, save_config
    from auralflow_core.data.splits import existing
    from auralflow_core.errors import CheckpointError
    from auralflow_core.layout import ModelFolder
    from auralflow_core.training import prepare_training

    for root in [data] if isinstance(data, Path) else data:
        if not root.exists():  # a plugin's data set may be a file
            existing(root)
    store = CheckpointStore(ModelFolder(folder).checkpoint)
    steps = store.steps()
    if steps and not (resume or force):
        raise CheckpointError(
            f"{folder}: has checkpoints up to step {steps[-1]}; add --resume to go on, or --force to remove them and "
            "start over"
        )
    if resume and not steps:
        raise CheckpointError(f"{folder}: has no checkpoint to go on from; leave out --resume to start")
    if start_from:
        fetch_weights(start_from, quiet=quiet)
    progress = TrainingProgress(quiet=quiet)
    if fits_batch:
        config = _fitted(config, progress)
    with decoding_bar(quiet=quiet) as told:
        trainer: Trainer = prepare_training(
            config, folder, data, callbacks=[progress], start_from=start_from, decoding=told, remark=progress.remark
        )
    if steps and force and trainer.world.is_main:
        shutil.rmtree(store.folder)
        # Two trainings in one set of curves could not be told apart.
        shutil.rmtree(ModelFolder(folder).runs, ignore_errors=True)
    if resume:
        trainer.resume()
    if trainer.world.is_main:
        save_config(config, config_path(folder))
    with progress:
        return trainer.fit()


def _fitted(config: Config, progress: TrainingProgress) -> Config:
    """Return the configuration with a batch whose step fits into memory."""
    from auralflow_core.errors import ConfigError
    from auralflow_core.trainer.distributed import current_world
    from auralflow_core.trainer.memory import GIB
    from auralflow_core.training import fit_batch

    if current_world().size > 1:
        raise ConfigError(
            "--batch_size auto: measures the memory of one process; find the size by a training with one process, then "
            "set batch_size to that times the number of processes"
        )
    config, peak = fit_batch(config)
    training = config.training
    progress.remark(
        f"Measured: a step with batches of {training.batch_size} takes {peak / GIB:.2f} GiB; so batch_size is "
        f"{training.batch_size}, backprop_every {training.backprop_every}"
    )
    return config
