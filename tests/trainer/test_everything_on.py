"""Exact resume with every schedule switched on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
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


KILLING = """
import os, random, signal, sys, time
import auralflow_core.trainer.loop
from auralflow_core.cli import main

folder, data, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng, killed = random.Random(seed), 0
for attempt in range(100):
    child = os.fork()
    if child == 0:
        has_checkpoint = any(name.startswith("step-") for name in os.listdir(folder + "/checkpoint")) \\
            if os.path.isdir(folder + "/checkpoint") else False
        main(["train", folder, data, "--quiet", *(["--resume"] if has_checkpoint else [])])
    if killed < 3:
        time.sleep(rng.uniform(0.1, 1.5))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print(killed)
        sys.exit(os.WEXITSTATUS(status))
    killed += 1
"""


@pytest.mark.slow
def test_kill_9_at_random_moments(
    model_folder: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["--max_epochs", "9", "--max_steps", "24", "--optimizer", "adamw", "--dropout_p", "0.4"]
    words += ["--scheduler", "{warmup_steps: 5}", "--ema", "{decay: 0.9}", "--save_images", "false"]
    words += ["--sequence_scheduler", "{increase_every: 8, max_sequence_length: 1}", "--tensorboard", "false"]
    words += ["--spec_augment", "{time_mask_param: 5}", "--checkpointing", "{save_every_n_steps: 2}"]
    words += ["--validation", "{every_n_steps: 10}", "--save_audio", "false"]
    invoke("config", model_folder, *words)
    other = shutil.copytree(model_folder, tmp_path / "other")
    invoke("train", other, song_folder, "--quiet")
    ended = subprocess.run(
        [sys.executable, "-c", KILLING, str(model_folder), str(song_folder), "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 0
    assert digest(model_folder) == digest(other)
