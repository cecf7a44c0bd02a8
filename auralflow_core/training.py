"""A model folder and a data set become a trainer: what `auralflow train` runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from auralflow_core.build import build_model, load_model, open_dataset
from auralflow_core.config import Config
from auralflow_core.data.cache import cached
from auralflow_core.data.chunks import ChunkDataset
from auralflow_core.data.drawing import check_song_patterns
from auralflow_core.data.open import fingerprint, pool, suited
from auralflow_core.data.song import Song
from auralflow_core.device import resolve_device
from auralflow_core.entries import load_target
from auralflow_core.errors import ConfigError, RegistryError
from auralflow_core.layout import ModelFolder
from auralflow_core.registry import Registry, default_registry
from auralflow_core.trainer import Callback, Trainer
from auralflow_core.trainer.feed import grown
from auralflow_core.trainer.memory import GIB, free_memory, largest_batch
from auralflow_core.trainer.scores import ValidationScores
from auralflow_core.trainer.smallest_batch import check_smallest_batch
from auralflow_core.trainer.snippets import AudioSnippets, ImageSnippets, SnippetMaker
from auralflow_core.trainer.transfer import transfer


def prepare_training(
    config: Config,
    folder: Path,
    data: Path | Sequence[Path],
    *,
    callbacks: Sequence[Callback] = (),
    registry: Registry | None = None,
    start_from: str | None = None,
    decoding: Callable[[int, int], None] = lambda done, total: None,
    remark: Callable[[str], None] = lambda line: None,
) -> Trainer:
    """Return a trainer of the configured model on a data set, with all that the configuration switches on.

    Args:
        config: The configuration.
        folder: The model folder.
        data: The data set's folder, or those of several.
        callbacks: Told of everything before the configured ones.
        registry: The registry; by default that of the installed plugins.
        start_from: A model folder or the name of public weights whose weights the model starts with, where they fit.
        decoding: Told how many files of compressed songs are decoded, and how many have to be.
        remark: Told how many songs are converted or left out, a line for each kind.

    Raises:
        AuralflowError: The configuration, the data set or a name in them is not usable.
    """
    train_songs, valid_songs = training_songs(config, data, registry, remark)
    train_chunks = ChunkDataset(train_songs, config.dataset, seed=config.training.random_seed)
    valid_chunks = ChunkDataset(valid_songs, config.dataset, shuffle=False)
    model = build_model(config, folder=folder, registry=registry)
    model.forward_pass.check()
    found = None
    if start_from is not None:
        found = transfer(model.network, load_model(start_from, device="cpu").network.state_dict(), start_from)
        model.origin["started_from"] = start_from
    loggers = build_loggers(config, folder, registry)
    # After all that can be refused: decoding takes long.
    train_chunks.songs = cached(train_songs, config.dataset, "train", decoding)
    valid_chunks.songs = cached(valid_songs, config.dataset, "valid", decoding)
    model.data_facts = {
        **({"path": str(data)} if isinstance(data, Path) else {"paths": [str(path) for path in data]}),
        "train": fingerprint(train_chunks.songs),
        "valid": fingerprint(valid_chunks.songs),
    }
    scores = [ValidationScores()] if loggers and config.visuals.metric_songs else []
    visuals = _visuals(config, ModelFolder(folder), has_loggers=bool(loggers))
    trainer = Trainer(model, train_chunks, valid_chunks, [*callbacks, *scores, *visuals, *loggers])
    check_smallest_batch(trainer)
    trainer.transfer = found
    return trainer


def training_songs(
    config: Config,
    data: Path | Sequence[Path],
    registry: Registry | None = None,
    remark: Callable[[str], None] = lambda line: None,
) -> tuple[list[Song], list[Song]]:
    """Return the songs that a model is trained with, and those for validation.

    Args:
        config: The configuration.
        data: The data set's folder, or those of several.
        registry: The registry; by default that of the installed plugins.
        remark: Told how many songs are converted, left out or not chosen, and whether all are shorter than a chunk.

    Raises:
        AuralflowError: The data set, or its type, is not usable.
    """
    dataset = open_dataset(data, config, registry)
    found = dataset.songs("train")
    check_song_patterns(found, config.dataset)
    train_songs, train_remarks = suited(found, config.dataset)
    valid_songs, valid_remarks = suited(dataset.songs("valid"), config.dataset)
    chosen = pool(train_songs, config.dataset.max_num_tracks, config.training.random_seed)
    if len(chosen) < len(train_songs):
        train_remarks.append(
            f"{len(chosen)} of {len(train_songs)} songs are taken: max_num_tracks is {config.dataset.max_num_tracks}"
        )
    longest = max((song.frames / song.sample_rate for song in chosen), default=math.inf)
    if longest < config.dataset.sample_length:
        train_remarks.append(
            f"the longest song has {longest:g} s: the rest of each chunk of {config.dataset.sample_length:g} s is "
            "silence; lower sample_length"
        )
    for line in (*train_remarks, *(f"validation: {line}" for line in valid_remarks)):
        remark(line)
    return chosen, valid_songs


def build_loggers(config: Config, folder: Path, registry: Registry | None = None) -> list[Callback]:
    """Return the training loggers that are registered and switched on.

    A logger is made with the configuration and the model folder. One that has a setting in the group `visuals` is
    switched by it; any other logger of a plugin has its own ways to stay silent.

    Raises:
        ConfigError: A logger is switched on and not installed.
    """
    loggers, switches = (registry or default_registry()).loggers, config.visuals.loggers
    try:
        chosen = [loggers.get(name) for name, is_on in switches.items() if is_on]
    except RegistryError as error:
        raise ConfigError(f"visuals: {error}; install it, or switch it off") from error
    chosen += [entry for entry in loggers if entry.name not in switches]
    return [load_target(entry.logger, entry)(config, folder) for entry in chosen]


def fit_batch(config: Config) -> tuple[Config, int]:
    """Return the configuration with the largest batch whose step fits into memory, and the bytes of that step.

    A step keeps its number of chunks, `batch_size` times `backprop_every`: it becomes as many equal batches as needed,
    so that `batch_size` divides it. Steps are measured, in a process of their own, up to `training.memory_limit`; where
    chunks grow, with the longest ones too.

    Raises:
        ConfigError: One chunk alone does not fit.
    """
    training, data = config.training, config.dataset
    chunks = training.batch_size * training.backprop_every
    sizes = [size for size in range(1, chunks + 1) if chunks % size == 0]
    device = resolve_device(training.device)
    limit = round(training.memory_limit * GIB) if training.memory_limit else free_memory(device)
    peaks = largest_batch(partial(build_model, config), [_stages(config, size) for size in sizes], limit)
    if not peaks:
        what = "training.memory_limit" if training.memory_limit else f"memory that {device} has free"
        raise ConfigError(
            f"--batch_size auto: a step with one chunk of {data.sample_length:g} s takes more than the "
            f"{limit / GIB:.2f} GiB of {what}; lower sample_length, or switch on gradient_checkpointing or "
            "use_mixed_precision"
        )
    size = sizes[len(peaks) - 1]
    changed = training.model_copy(update={"batch_size": size, "backprop_every": chunks // size})
    return config.model_copy(update={"training": changed}), peaks[-1]


def _stages(config: Config, size: int) -> list[tuple[int, int]]:
    """Return chunks in a batch and samples in a chunk, of the first steps and of those with the longest chunks."""
    data, schedule = config.dataset, config.training.sequence_scheduler
    first = (size, data.chunk_frames)
    if schedule is None:
        return [first]
    length, last_size, _ = grown(data.sample_length, size, sys.maxsize, schedule)
    return [first, (last_size, round(length * data.sample_rate))]


def _visuals(config: Config, folder: ModelFolder, *, has_loggers: bool) -> list[Callback]:
    visuals = config.visuals
    writers: list[Callback] = []
    if visuals.save_audio:
        writers.append(AudioSnippets(folder))
    if visuals.save_images:
        writers.append(ImageSnippets(folder))
    return [SnippetMaker(), *writers] if writers or has_loggers else []
