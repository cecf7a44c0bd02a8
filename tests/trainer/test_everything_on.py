"""Exact resume with every schedule switched on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralflow_core.trainer import Callback, Step, Trainer

TrainerMaker = Callable[..., Trainer]

EVERYTHING: dict[str, Any] = {
    "max_epochs": 9,
    "max_steps": 22,
    "optimizer": {"name": "adamw", "lr_by_name": {"last.*": 0.02}},
    "scheduler": {"name": "cosine", "warmup_steps": 3},
    "backprop_every": 2,
    "clip_value": 0.1,
    "sequence_scheduler": {"increase_every": 6, "start_after": 1, "max_sequence_length": 0.5},
    "spec_augment": {"time_mask_param": 4, "freq_mask_param": 4},
    "start_spec_augment_after_n_epochs": 1,
    "ema": {"decay": 0.9},
    "validation": {"every_n_steps": 5, "metric": "si_sdr"},
    "checkpointing": {"save_every_n_steps": 3, "keep": 2},
}
PLATEAU = {
    **EVERYTHING,
    "optimizer": "muon",
    "scheduler": "plateau",
    "stop_patience": 2,
    "max_lr_steps": 9,
    "ema": None,
    "validation": {"every_n_steps": 4, "metric": "usdr"},
}


class CrashError(Exception):
    """Stands for a process that dies."""


class CrashAt(Callback):
    def __init__(self, *steps: int) -> None:
        self.steps = set(steps)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step in self.steps:
            self.steps.remove(step.step)
            raise CrashError


def digest(folder: Path) -> str:
    path = sorted(folder.glob("checkpoint/step-*/model.safetensors"))[-1]
    return f"{path.parent.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("training", [EVERYTHING, PLATEAU], ids=["cosine", "plateau"])
def test_crashes_change_nothing(make_trainer: TrainerMaker, tmp_path: Path, training: dict[str, Any]) -> None:
    make_trainer("unbroken", [], "plain", **training).fit()
    expected = digest(tmp_path / "unbroken")

    @settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sets(st.integers(1, 22), min_size=1, max_size=3))
    def crash(steps: set[int]) -> None:
        shutil.rmtree(tmp_path / "broken", ignore_errors=True)
        crashes = CrashAt(*steps)
        for number in range(5):
            torch.manual_seed(1000 + number)
            trainer = make_trainer("broken", [crashes], "plain", **training)
            if trainer.store.steps():
                trainer.resume()
            try:
                trainer.fit()
            except CrashError:
                continue
            break
        assert digest(tmp_path / "broken") == expected

    crash()
