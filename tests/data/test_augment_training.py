"""Trainings with augmentations, through the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.config.augmentation_groups import MixtureAugmentations, SongAugmentations, StemAugmentations
from auralflow_core.config.group import Group

Invoke = Callable[..., Any]
QUIETLY = ("--quiet", "--save_audio", "false", "--save_images", "false", "--tensorboard", "false")


def everything(*, device: str) -> str:
    """Return settings that switch on all that works there."""
    pytest.importorskip("python_stretch")
    groups: dict[str, type[Group]] = {
        "song": SongAugmentations,
        "stems": StemAugmentations,
        "mixture": MixtureAugmentations,
    }
    settings: dict[str, Any] = {
        group: {name: {"p": 0.7} for name in schema.model_fields} for group, schema in groups.items()
    }
    if device == "model":
        settings["mixture"].pop("mp3")
    return json.dumps({"device": device, **settings})


def weights(folder: Path, step: int) -> str:
    path = next(folder.glob(f"checkpoint/step-*{step}/model.safetensors"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("device", ["worker", "model"])
def test_a_training_with_everything_on_is_resumed_exactly(
    invoke: Invoke, model_folder: Path, song_folder: Path, tmp_path: Path, device: str
) -> None:
    invoke("config", model_folder, "--augmentations", everything(device=device), "--max_num_samples", 6)
    other = Path(shutil.copytree(model_folder, tmp_path / "other"))
    invoke("train", model_folder, song_folder, *QUIETLY)
    invoke("train", other, song_folder, *QUIETLY, "--max_steps", 2)
    invoke("train", other, song_folder, *QUIETLY, "--resume", "--max_steps", 10_000)
    last = max(int(path.name.split("-")[-1]) for path in (model_folder / "checkpoint").glob("step-*"))
    assert weights(model_folder, last) == weights(other, last)


def test_settings_by_their_paths(invoke: Invoke, model_folder: Path, song_folder: Path) -> None:
    invoke(
        "config", model_folder, "--augmentations.stems", "{gain: {p: 0.5}}", "--dataset.augmentations.device", "model"
    )
    found = json.loads((model_folder / "config.json").read_text())["dataset"]["augmentations"]
    assert found["stems"]["gain"]["p"] == 0.5 and found["device"] == "model"
    invoke("train", model_folder, song_folder, *QUIETLY, "--max_steps", 1)


def test_what_cannot_work_is_refused_before_training(
    refused: Callable[..., str], invoke: Invoke, model_folder: Path, song_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_stretch", None)
    invoke("config", model_folder, "--augmentations", "{song: {tempo: {}}}")
    assert "pip install 'auralflow[augment]'" in refused("train", model_folder, song_folder, *QUIETLY)
    assert not list(model_folder.glob("checkpoint/step-*"))
