"""`auralflow average`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from torch import Tensor

    from auralflow_core.config import Config
    from auralflow_core.model import SeparationModel

# Settings of the data set that decide what a network's numbers mean.
_SPECTROGRAM = ("targets", "num_channels", "sample_rate", "num_fft", "window_size", "hop_length", "stft_padding")


class Part(NamedTuple):
    """A checkpoint that has a part in the mean."""

    folder: Path
    step: int


@click.command("average")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--save", required=True, type=click.Path(path_type=Path), help="Model folder to make of the mean.")
@click.option("--last", type=click.IntRange(min=2), metavar="N", help="Average the latest N checkpoints of MODEL.")
@click.option("--steps", metavar="N,N,...", help="Average the checkpoints of these steps of MODEL.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Songs to measure the statistics of batch normalisation on anew."
)
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def average(
    models: tuple[Path, ...], save: Path, last: int | None, steps: str | None, data: Path | None, quiet: bool
) -> None:
    """Make a model of the mean of several checkpoints' weights.

    \b
    auralflow average my_model --last 5 --save averaged --data path/to/musdb18hq
    auralflow average my_model --steps 2000,4000,6000 --save averaged
    auralflow average first_model second_model --save averaged

    Of one MODEL, all of its checkpoints are taken, or those of --last or --steps; `checkpointing.keep` says how many
    there are. Of several models it is the best checkpoint of each; they must be of one architecture, and fine-tuned
    from one start to have anything in common.
    """  # noqa: D301 - click takes the character for an end of wrapping
    from auralflow_core.build import load_model, save_as_folder
    from auralflow_core.checkpoint import CheckpointStore
    from auralflow_core.errors import ConfigError
    from auralflow_core.layout import ModelFolder
    from auralflow_core.trainer.average import mean_of, united_facts

    if save.exists():
        raise ConfigError(f"{save}: exists already; choose another folder with --save")
    parts = _parts(models, last, steps)
    model = load_model(parts[0].folder, step=parts[0].step, device="cpu")
    model.network.load_state_dict(mean_of(_states(parts, model.config)))
    model.data_facts = united_facts(
        [CheckpointStore(ModelFolder(part.folder).checkpoint).meta(part.step).get("data", {}) for part in parts]
    )
    model.origin["averaged"] = [f"{part.folder} step {part.step}" for part in parts]
    _settle_batch_norm(model, data, quiet=quiet)
    save_as_folder(model, save)
    if not quiet:
        click.echo(f"Made the model folder {save} of {len(parts)} checkpoints:")
        for part in parts:
            click.echo(f"  {part.folder}, step {part.step}")


def _parts(models: tuple[Path, ...], last: int | None, steps: str | None) -> list[Part]:
    """Return the checkpoints that are averaged."""
    from auralflow_core.checkpoint import CheckpointStore
    from auralflow_core.config import config_path
    from auralflow_core.errors import CheckpointError
    from auralflow_core.layout import ModelFolder

    if (last and steps) or ((last or steps) and len(models) > 1):
        raise click.UsageError("Take one MODEL with --last or --steps, or several without.")
    for folder in models:
        config_path(folder)  # says what is wrong with a folder that is none
    stores = [CheckpointStore(ModelFolder(folder).checkpoint) for folder in models]
    if len(models) > 1:
        return [Part(folder, store.best()) for folder, store in zip(models, stores, strict=True)]
    [store], [folder] = stores, models
    known = store.steps()
    chosen = sorted(set(_numbers(steps))) if steps else known[-last:] if last else known
    missing = [step for step in chosen if step not in known]
    if missing or len(chosen) < (last or 2):
        wanted = f"none of step {missing[0]}" if missing else f"{len(chosen)}, and {last or 2} are to be averaged"
        raise CheckpointError(
            f"{folder}: has checkpoints of the steps {', '.join(map(str, known)) or '(none)'}: {wanted}; train with a "
            "larger checkpointing.keep and with checkpointing.save_every_n_steps to have more"
        )
    return [Part(folder, step) for step in chosen]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} are no numbers with commas between them", param_hint="--steps") from None


def _states(parts: list[Part], config: Config) -> Iterator[Mapping[str, Tensor]]:
    """Yield the weights of one checkpoint after another."""
    from auralflow_core.build import load_model

    for part in parts:
        model = load_model(part.folder, step=part.step, device="cpu")
        _check_alike(parts[0].folder, config, part.folder, model.config)
        yield model.network.state_dict()


def _check_alike(first: Path, config: Config, folder: Path, other: Config) -> None:
    """Refuse to average what does not mean the same.

    Raises:
        ConfigError: Names the first setting that differs.
    """
    from auralflow_core.errors import ConfigError

    ours, theirs = _meaning(config), _meaning(other)
    for path in [*ours, *theirs]:
        if ours.get(path) != theirs.get(path):
            raise ConfigError(
                f"{folder}: {path} is {theirs.get(path)!r}, and {ours.get(path)!r} in {first}; only models of one "
                "architecture and one kind of spectrogram can be averaged"
            )


def _meaning(config: Config) -> dict[str, Any]:
    return {
        "model.type": config.model.type,
        # A share of dropout has no say any more once a model is trained.
        **{f"model.params.{name}": value for name, value in config.model.params.items() if "dropout" not in name},
        **{f"dataset.{name}": getattr(config.dataset, name) for name in _SPECTROGRAM},
    }


def _settle_batch_norm(model: SeparationModel, data: Path | None, *, quiet: bool) -> None:
    """Measure the statistics of batch normalisation under the mean weights, or say that nobody did."""
    from auralflow_core.trainer.batch_norm import measure_statistics
    from auralflow_core.trainer.distributed import World

    if not any(name.endswith("running_mean") for name in model.network.state_dict()):
        return
    if data is None:
        click.echo(
            f"Warning: {model.config.model.type} has batch normalisation, whose statistics are now the mean of the "
            "checkpoints' own; --data with the training songs measures them anew, which is better",
            err=True,
        )
        return
    measure_statistics(model, _mixtures(model.config, data, quiet=quiet), World())


def _mixtures(config: Config, data: Path, *, quiet: bool) -> Iterator[Tensor]:
    """Yield batches of mixtures of the training songs."""
    import torch

    from auralflow_core.cli.cache import decoding_bar
    from auralflow_core.data.cache import cached
    from auralflow_core.data.chunks import ChunkDataset, ChunkKey
    from auralflow_core.training import training_songs

    songs, _ = training_songs(config, data)
    chunks = ChunkDataset(songs, config.dataset, seed=config.training.random_seed)
    with decoding_bar(quiet=quiet) as told:
        chunks.songs = cached(songs, config.dataset, "train", told)
    size = config.training.batch_size
    for first in range(0, min(len(chunks), size * max(1, config.training.batch_norm_batches)), size):
        numbers = range(first, min(first + size, len(chunks)))
        yield torch.stack([chunks.mixture(ChunkKey(0, number)) for number in numbers])
