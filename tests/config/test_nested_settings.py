"""Settings inside the groups of a group, by their names: `--optimizer.name adamw`, `--ema.decay 0.9`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.config import Config, Setting, apply_settings, load_config, validate
from auralflow_core.errors import ConfigError

BASE = {"model": {"type": "T"}}


def changed(*words: tuple[str, str | None], training: dict[str, Any] | None = None) -> Config:
    data = {**BASE, "training": training or {}}
    return validate(Config, apply_settings(data, [Setting(*word) for word in words], None))


@pytest.mark.parametrize("prefix", ["", "training."])
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optimizer", "adamw", "adamw"),
        ("optimizer.name", "adamw", "adamw"),
        ("optimizer.fused", None, True),
        ("optimizer.args.weight_decay", "0.01", 0.01),
        ("optimizer.args.weight-decay", "1e-2", 0.01),
        ("optimizer.args.nesterov", "true", True),
        ("optimizer.args.betas", "[0.8, 0.9]", [0.8, 0.9]),
        ("optimizer.lr_by_name.encoder.*", "1e-4", 1e-4),
        ("scheduler.warmup_steps", "100", 100),
        ("ema.decay", "0.99", 0.99),
        ("spec-augment.p", "0.5", 0.5),
        ("checkpointing.keep", "5", 5),
        ("validation.metric", "usdr", "usdr"),
        ("validation.every-n-steps", "null", None),
    ],
)
def test_values(prefix: str, name: str, text: str | None, value: Any) -> None:
    found: Any = changed((prefix + name, text)).training.model_dump()
    first, *rest = name.replace("-", "_").split(".", 2)
    found = found[first]
    for part in rest or ["name"]:
        found = found[part]
    assert found == value and type(found) is type(value)


def test_a_sequence_scheduler_of_its_parts() -> None:
    words = [("sequence_scheduler.increase_every", "100"), ("sequence_scheduler.max_sequence_length", "24")]
    found = changed(*words).training.sequence_scheduler
    assert found is not None and (found.increase_every, found.max_sequence_length) == (100, 24)
    with pytest.raises(ConfigError, match=r"training\.sequence_scheduler\.max_sequence_length: is missing"):
        changed(words[0])


def test_visuals_have_groups_too() -> None:
    assert changed(("wandb.use", None), ("visuals.wandb.project-name", "007")).visuals.wandb.project_name == "007"


@pytest.mark.parametrize("prefix", ["", "dataset."])
def test_groups_in_a_mapping(prefix: str) -> None:
    by_name = f"{prefix}augmentations.stems_by_name"
    words = [
        (f"{by_name}.vocals.gain.p", "0.25"),
        (f"{by_name}.vocals.gain.min-db", "-3"),
        (f"{by_name}.lead.vocals.mute.p", "1"),
        (f"{by_name}.drums", "{pitch: {p: 0}}"),
        (f"{by_name}.bass.pitch", "null"),
    ]
    found = changed(*words).dataset.augmentations.stems_by_name
    assert list(found) == ["vocals", "lead.vocals", "drums", "bass"]
    gain, mute, pitch = found["vocals"].gain, found["lead.vocals"].mute, found["drums"].pitch
    assert gain and (gain.p, gain.min_db) == (0.25, -3) and mute and mute.p == 1 and pitch and pitch.p == 0


def test_what_stands_there_is_kept() -> None:
    before = {"optimizer": {"name": "sgd", "args": {"momentum": 0.5}}, "ema": None, "scheduler": "cosine"}
    found = changed(
        ("optimizer.args.nesterov", "yes"), ("ema.decay", "0.5"), ("scheduler.final_lr", "0.1"), training=before
    ).training
    assert (found.optimizer.name, found.optimizer.args) == ("sgd", {"momentum": 0.5, "nesterov": "yes"})
    assert found.ema is not None and found.ema.decay == 0.5
    assert (found.scheduler.name, found.scheduler.final_lr) == ("cosine", 0.1)
    assert before["ema"] is None  # the data given is not changed


def test_a_short_form_and_its_parts() -> None:
    found = changed(("optimizer", "sgd"), ("optimizer.args.momentum", "0.9"), ("optimizer.args.lr", "0.5")).training
    assert (found.optimizer.name, found.optimizer.args) == ("sgd", {"momentum": 0.9, "lr": 0.5})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("optimizer.nam", "adam", "optimizer.nam: unknown setting; did you mean optimizer.name"),
        ("training.ema.deca", "1", "unknown setting; did you mean training.ema.decay"),
        ("optimizer.lr_by_name.x", "fast", "training.optimizer.lr_by_name.x"),
        ("ema.decay", "3", "training.ema.decay: '3' must be less than 1"),
        ("ema.decay.x", "3", "ema.decay.x: unknown setting"),
        ("lr.x", "3", "lr.x: unknown setting"),
        ("ema.decay", None, "ema.decay: has no value"),
        ("augmentations.stems_by_name.vocals.gian.p", "1", "stems_by_name.vocals.gian: unknown setting; did you mean"),
        ("augmentations.stems_by_name.vocals.gain.q", "1", "stems_by_name.vocals.gain.q: unknown setting"),
        ("augmentations.stems_by_name.vocals.gain.p", "2", "vocals.gain.p: '2' must be less than or equal to 1"),
        ("augmentations.stems_by_name.gain.p", "1", "stems_by_name.gain.p: unknown setting"),
        ("optimizer.args.lr", "-1", "args.lr: -1 is no learning rate"),
    ],
)
def test_refusals(name: str, text: str | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed((name, text))
    assert words in str(caught.value)


def test_on_the_command_line(
    invoke: Callable[..., Any], refused: Callable[..., str], model_folder: Path, song_folder: Path
) -> None:
    nested = ("--optimizer.name", "adamw", "--optimizer.args.weight_decay", "0.01", "--ema.decay", "0.9")
    invoke("config", model_folder, *nested, "--scheduler.warmup_steps", "3")
    training = load_config(model_folder).training
    assert (training.optimizer.name, training.optimizer.args) == ("adamw", {"weight_decay": 0.01})
    assert training.scheduler.is_cosine and training.ema is not None and training.ema.decay == 0.9
    quick = ("--tensorboard", "false", "--save_images", "false", "--save_audio", "false", "--quiet", "--max_steps", "4")
    grows = ("--sequence_scheduler.increase_every", "2", "--sequence_scheduler.max_sequence_length", "1")
    invoke("train", model_folder, song_folder, *quick, *grows, "--optimizer.args.eps", "1e-6")
    training = load_config(model_folder).training
    assert training.optimizer.args == {"weight_decay": 0.01, "eps": 1e-6} and training.sequence_scheduler is not None
    assert "did you mean madgrad" in refused("config", model_folder, "--optimizer.name", "madgard")
