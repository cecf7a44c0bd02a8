"""Stop and resume gives the same bytes as no stop."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from auralflow_core.trainer import Callback, Epoch, Step, Trainer
from auralflow_core.trainer import loop as loop_module

TrainerMaker = Callable[..., Trainer]


class StopAt(Callback):
    """Sends Ctrl-C after given steps, and after given epochs, during what follows them."""

    def __init__(self, *steps: int, epochs: tuple[int, ...] = ()) -> None:
        self.steps, self.epochs = steps, epochs

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step in self.steps:
            signal.raise_signal(signal.SIGINT)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if epoch.epoch in self.epochs:
            signal.raise_signal(signal.SIGINT)


def digest(trainer: Trainer) -> str:
    path = trainer.store.path(trainer.store.latest()) / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(trainer: Trainer) -> dict[str, Any]:
    """All that the last checkpoint holds of what training goes on from, but for the time it took."""
    step = trainer.store.latest()
    found = {name: trainer.store.load(step, name) for name in ("optimizer", "scheduler", "trainer")}
    for name in ("seconds", "data_seconds", "compute_seconds", "validated_at"):
        del found["trainer"]["progress"][name]
    return found


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def unbroken(trainers_in: Callable[[Path], TrainerMaker], tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Return what trained four epochs in peace; it is shared, look and do not touch."""
    trainer = trainers_in(tmp_path_factory.mktemp("unbroken"))(max_epochs=4)
    assert trainer.fit().steps == 32
    return trainer


def go_on(make_trainer: TrainerMaker, callback: Callback, **settings: Any) -> Trainer:
    """Train, resuming after every stop, each time with everything made anew and another random state."""
    for number in range(20):
        torch.manual_seed(1000 + number)
        trainer = make_trainer("broken", [callback], **{"max_epochs": 4, **settings})
        if trainer.store.steps():
            trainer.resume()
        if trainer.fit().reason == "max_epochs":
            return trainer
    raise AssertionError("never came to an end")


class TestSameBytes:
    def test_two_runs_are_equal(self, make_trainer: TrainerMaker, unbroken: Trainer) -> None:
        torch.manual_seed(99)
        again = make_trainer("again", max_epochs=4)
        again.fit()
        assert digest(again) == digest(unbroken)
        assert equal(state(again), state(unbroken))

    def test_dropout_is_at_work(self, make_trainer: TrainerMaker, unbroken: Trainer) -> None:
        other = make_trainer("other", max_epochs=4)
        torch.manual_seed(99)
        other.config = other.config.model_copy(update={"random_seed": 5})
        other.fit()
        assert digest(other) != digest(unbroken)

    @pytest.mark.parametrize("epochs", [(1,), (1, 2, 3)])
    def test_between_epochs(self, make_trainer: TrainerMaker, unbroken: Trainer, epochs: tuple[int, ...]) -> None:
        for last in (*epochs, 4):
            trainer = make_trainer("broken", max_epochs=last)
            if trainer.store.steps():
                trainer.resume()
            trainer.fit()
        assert digest(trainer) == digest(unbroken)
        assert equal(state(trainer), state(unbroken))

    # Each new iteration over a loader draws a number, which must not come from the generator of dropout.
    @pytest.mark.parametrize("steps", [(1,), (5,), (13,), (8,), (24,), (31,), (32,), (3, 4, 17)])
    def test_inside_an_epoch(self, make_trainer: TrainerMaker, unbroken: Trainer, steps: tuple[int, ...]) -> None:
        trainer = go_on(make_trainer, StopAt(*steps))
        assert digest(trainer) == digest(unbroken)
        assert equal(state(trainer), state(unbroken))

    def test_while_an_epoch_ends(self, make_trainer: TrainerMaker, unbroken: Trainer) -> None:
        trainer = go_on(make_trainer, StopAt(epochs=(1, 3)))
        assert digest(trainer) == digest(unbroken)
        assert equal(state(trainer), state(unbroken))

    def test_by_the_time_limit(
        self, make_trainer: TrainerMaker, unbroken: Trainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

        class Tick(Callback):
            def on_step(self, trainer: Trainer, step: Step) -> None:
                clock[0] += 10

        trainer = go_on(make_trainer, Tick(), max_minutes=1.8)
        assert digest(trainer) == digest(unbroken)

    def test_with_workers(self, make_trainer: TrainerMaker, unbroken: Trainer) -> None:
        trainer = go_on(make_trainer, StopAt(11), num_workers=1)
        assert digest(trainer) == digest(unbroken)


KILLED_AT = """
import os, signal, sys
from auralflow_core.cli import main
from auralflow_core.trainer.loop import Trainer

taken, step = Trainer._train_step, int(sys.argv[1])

def counted(self, batch):
    found = taken(self, batch)
    if found.step == step:
        os.killpg(os.getpgrp(), signal.SIGINT)
    return found

Trainer._train_step = counted
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(
    model_folder: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path: Path
) -> None:
    other = shutil.copytree(model_folder, tmp_path / "other")
    settings = ["--max_epochs", "2", "--dropout_p", "0.4", "--save_images", "false", "--tensorboard", "false"]
    settings += ["--num_workers", "1"]
    invoke("train", other, song_folder, "--quiet", *settings)
    # The whole process group is told, workers too, as a terminal does.
    stopped = subprocess.run(
        [sys.executable, "-c", KILLED_AT, "11", "train", str(model_folder), str(song_folder), *settings],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stderr.strip().endswith(f"auralflow train {model_folder} {song_folder} --resume")
    assert (model_folder / "checkpoint" / "step-00000011").is_dir()
    invoke("train", model_folder, song_folder, "--resume", "--quiet")
    digests = [
        hashlib.sha256(sorted(folder.glob("checkpoint/step-*/model.safetensors"))[-1].read_bytes()).hexdigest()
        for folder in (model_folder, other)
    ]
    assert digests[0] == digests[1]
