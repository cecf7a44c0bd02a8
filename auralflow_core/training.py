"""A model folder and a data set become a trainer: what `auralflow train` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auralflow_core.build import build_loggers, build_model, open_dataset
from auralflow_core.config import Config
from auralflow_core.data.chunks import ChunkDataset
from auralflow_core.data.open import fingerprint, pool
from auralflow_core.layout import ModelFolder
from auralflow_core.registry import Registry
from auralflow_core.trainer import Callback, Trainer
from auralflow_core.trainer.snippets import AudioSnippets, ImageSnippets, SnippetMaker


def prepare_training(
    config: Config,
    folder: Path,
    data: Path,
    *,
    callbacks: Sequence[Callback] = (),
    registry: Registry | None = None,
) -> Trainer:
    """Return a trainer of the configured model on a data set, with all that the configuration switches on.

    Args:
        config: The configuration.
        folder: The model folder.
        data: The data set's folder.
        callbacks: Told of everything before the configured ones.
        registry: The registry; by default that of the installed plugins.

    Raises:
        AuralflowError: The configuration, the data set or a name in them is not usable.
    """
    dataset = open_dataset(data, config, registry)
    seed = config.training.random_seed
    train_songs = pool(dataset.songs("train"), config.dataset.max_num_tracks, seed)
    valid_songs = dataset.songs("valid")
    train_chunks = ChunkDataset(train_songs, config.dataset, seed=seed)
    valid_chunks = ChunkDataset(valid_songs, config.dataset, shuffle=False)
    model = build_model(config, folder=folder, registry=registry)
    model.data_facts = {
        "path": str(data),
        "train": fingerprint(train_songs),
        "valid": fingerprint(valid_songs),
    }
    return Trainer(
        model,
        train_chunks,
        valid_chunks,
        [*callbacks, *_visuals(config, ModelFolder(folder)), *build_loggers(config, folder, registry)],
    )


def _visuals(config: Config, folder: ModelFolder) -> list[Callback]:
    visuals = config.visuals
    writers: list[Callback] = []
    if visuals.save_audio:
        writers.append(AudioSnippets(folder))
    if visuals.save_images:
        writers.append(ImageSnippets(folder))
    return [SnippetMaker(), *writers] if writers or visuals.tensorboard else []
