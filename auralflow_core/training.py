"""A model folder and a data set become a trainer: what `auralflow train` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from auralflow_core.build import build_loggers, build_model, load_model, open_dataset
from auralflow_core.config import Config
from auralflow_core.data.cache import cached
from auralflow_core.data.chunks import ChunkDataset
from auralflow_core.data.open import fingerprint, pool
from auralflow_core.data.song import Song
from auralflow_core.layout import ModelFolder
from auralflow_core.registry import Registry
from auralflow_core.trainer import Callback, Trainer
from auralflow_core.trainer.scores import ValidationScores
from auralflow_core.trainer.snippets import AudioSnippets, ImageSnippets, SnippetMaker
from auralflow_core.trainer.transfer import transfer


def prepare_training(
    config: Config,
    folder: Path,
    data: Path,
    *,
    callbacks: Sequence[Callback] = (),
    registry: Registry | None = None,
    start_from: str | None = None,
    decoding: Callable[[int, int], None] = lambda done, total: None,
) -> Trainer:
    """Return a trainer of the configured model on a data set, with all that the configuration switches on.

    Args:
        config: The configuration.
        folder: The model folder.
        data: The data set's folder.
        callbacks: Told of everything before the configured ones.
        registry: The registry; by default that of the installed plugins.
        start_from: A model folder or the name of public weights whose weights the model starts with, where they fit.
        decoding: Told how many files of compressed songs are decoded, and how many have to be.

    Raises:
        AuralflowError: The configuration, the data set or a name in them is not usable.
    """
    train_songs, valid_songs = training_songs(config, data, registry)
    train_chunks = ChunkDataset(train_songs, config.dataset, seed=config.training.random_seed)
    valid_chunks = ChunkDataset(valid_songs, config.dataset, shuffle=False)
    model = build_model(config, folder=folder, registry=registry)
    found = None
    if start_from is not None:
        found = transfer(model.network, load_model(start_from, device="cpu").network.state_dict(), start_from)
        model.origin["started_from"] = start_from
    # After all that can be refused: decoding takes long.
    train_chunks.songs = cached(train_songs, config.dataset, "train", decoding)
    valid_chunks.songs = cached(valid_songs, config.dataset, "valid", decoding)
    model.data_facts = {
        "path": str(data),
        "train": fingerprint(train_chunks.songs),
        "valid": fingerprint(valid_chunks.songs),
    }
    loggers = build_loggers(config, folder, registry)
    scores = [ValidationScores()] if loggers and config.visuals.metric_songs else []
    visuals = _visuals(config, ModelFolder(folder))
    trainer = Trainer(model, train_chunks, valid_chunks, [*callbacks, *scores, *visuals, *loggers])
    trainer.transfer = found
    return trainer


def training_songs(config: Config, data: Path, registry: Registry | None = None) -> tuple[list[Song], list[Song]]:
    """Return the songs that a model is trained with, and those for validation.

    Raises:
        AuralflowError: The data set, or its type, is not usable.
    """
    dataset = open_dataset(data, config, registry)
    train_songs = pool(dataset.songs("train"), config.dataset.max_num_tracks, config.training.random_seed)
    return train_songs, dataset.songs("valid")


def _visuals(config: Config, folder: ModelFolder) -> list[Callback]:
    visuals = config.visuals
    writers: list[Callback] = []
    if visuals.save_audio:
        writers.append(AudioSnippets(folder))
    if visuals.save_images:
        writers.append(ImageSnippets(folder))
    return [SnippetMaker(), *writers] if writers or visuals.tensorboard else []
