"""Schedules of the learning rate that plugins register."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, OneCycleLR, StepLR

from auralflow_core.config import TrainingConfig
from auralflow_core.errors import CheckpointError, ConfigError, TrainingError
from auralflow_core.model.registered_schedule import RegisteredSchedule
from auralflow_core.trainer import Trainer

TrainerMaker = Callable[..., Trainer]
RecorderMaker = Callable[[], Any]

PLUGIN = """
import os, signal
from auralflow_core import hookimpl

def falling(optimizer, max_steps, power=1.0):
    from torch.optim.lr_scheduler import LambdaLR

    class Falling(LambdaLR):
        def step(self):
            super().step()
            if os.environ.get("KILL_AFTER") == str(self.last_epoch):
                os.kill(os.getpid(), signal.SIGKILL)

    if max_steps is None:
        raise ValueError("set max_steps")
    return Falling(optimizer, lambda step: (1 - step / max_steps) ** power)

@hookimpl
def register_schedulers(register):
    register("falling", scheduler=falling, summary="falls to zero", settings=("max_steps",))
    register("halved", scheduler="torch.optim.lr_scheduler:StepLR", summary="falls in steps")
    register("nothing", scheduler=repr, summary="no schedule")
"""
QUIET = ("--quiet", "--save_audio", "no", "--save_images", "no", "--tensorboard", "no")


@pytest.fixture
def falling(install_plugin: Any, tmp_path: Path) -> Path:
    """Install the plugin; return the folder it is in."""
    return tmp_path / "site-packages" / str(install_plugin("auralflow-falling", PLUGIN))


def one_cycle(optimizer: Optimizer, max_steps: int, **arguments: Any) -> OneCycleLR:
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=max_steps, **arguments)


SCHEDULES: dict[str, Any] = {
    "one-cycle": (one_cycle, ("max_steps",)),
    "stairs": (StepLR, ()),
    "fall": (ExponentialLR, ()),
}


def alone(make: Callable[[Optimizer], LRScheduler], steps: int, *peaks: float) -> list[list[float]]:
    """Return the rates of each step of torch's optimizer and schedule, and nothing else."""
    optimizer = SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": peak} for peak in peaks])
    schedule, rates = make(optimizer), []
    for _ in range(steps):
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


class TestRates:
    @pytest.mark.parametrize(
        ("name", "args", "make"),
        [
            ("stairs", {"step_size": 3, "gamma": 0.3}, lambda optimizer: StepLR(optimizer, 3, 0.3)),
            ("fall", {"gamma": 0.9}, lambda optimizer: ExponentialLR(optimizer, 0.9)),
            (
                "one-cycle",
                {"cycle_momentum": False, "pct_start": 0.4},
                lambda optimizer: one_cycle(optimizer, 12, pct_start=0.4, cycle_momentum=False),
            ),
        ],
    )
    @pytest.mark.parametrize("optimizer", ["sgd", "muon"])
    def test_rates_are_those_of_torch_alone(
        self,
        name: str,
        args: dict[str, Any],
        make: Callable[[Optimizer], LRScheduler],
        optimizer: str,
        make_trainer: TrainerMaker,
        make_recorder: RecorderMaker,
    ) -> None:
        recorder = make_recorder()
        settings = {"optimizer": {"name": optimizer, "lr_by_name": {"last.*": 0.02}}, "lr": 0.1, "max_steps": 12}
        scheduler = {"name": name, "args": args}
        make_trainer("model", [recorder], "plain", schedules=SCHEDULES, scheduler=scheduler, **settings).fit()
        expected = alone(make, 12, 0.1, 0.02)
        assert [[rates[0], rates[-1]] for rates in recorder.rates] == expected

    def test_slowed_down_they_are_halves_of_themselves(self) -> None:
        optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = RegisteredSchedule(optimizer, "fall", ExponentialLR, {"gamma": 0.9})
        rates = []
        for step in range(6):
            if step == 3:
                schedule.slow_down(0.5)
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            schedule.after_step()
        plain = [rate for [rate] in alone(lambda each: ExponentialLR(each, 0.9), 6, 0.1)]
        assert rates == [*plain[:3], *(rate / 2 for rate in plain[3:])]

    def test_one_that_listens_ends_the_training(self, make_trainer: TrainerMaker, make_recorder: RecorderMaker) -> None:
        heard: list[float] = []

        class Listening(StepLR):
            def after_validation(self, loss: float) -> bool:
                heard.append(loss)
                self.optimizer.param_groups[0]["lr"] *= 0.25
                return len(heard) == 2

        recorder = make_recorder()
        schedules = {"listening": (Listening, ())}
        scheduler = {"name": "listening", "args": {"step_size": 99}}
        trainer = make_trainer("model", [recorder], schedules=schedules, scheduler=scheduler, max_epochs=9)
        assert trainer.fit().reason == "plateau"
        assert heard == [epoch.valid_loss for epoch in recorder.epochs] and len(heard) == 2
        assert [rates[0] for rates in recorder.rates] == [0.01] * 8 + [0.0025] * 8


class TestResume:
    def test_after_a_kill_it_gives_the_weights_of_a_training_without(
        self, falling: Path, invoke: Callable[..., Any], tiny_settings: list[str], song_folder: Path, tmp_path: Path
    ) -> None:
        settings = ("--scheduler.name", "falling", "--scheduler.args.power", "2", "--max_steps", "14")
        each = (*tiny_settings, *settings, "--max_epochs", "9", "--checkpointing.save_every_n_steps", "3")
        for name in ("whole", "killed"):
            invoke("config", name, "SpectrogramNetSimple", "--save", tmp_path, *each)
        invoke("train", tmp_path / "whole", song_folder, *QUIET)
        environment = {**os.environ, "PYTHONPATH": str(falling), "KILL_AFTER": "11"}
        command = [sys.executable, "-m", "auralflow", "train", str(tmp_path / "killed"), str(song_folder), *QUIET]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        assert not list(tmp_path.glob("killed/checkpoint/step-00000014"))
        invoke("train", tmp_path / "killed", song_folder, "--resume", *QUIET)
        whole, killed = (
            hashlib.sha256((tmp_path / name / "checkpoint/step-00000014/model.safetensors").read_bytes()).hexdigest()
            for name in ("whole", "killed")
        )
        assert killed == whole
        state = torch.load(tmp_path / "killed/checkpoint/step-00000014/optimizer.pt", weights_only=True)
        assert state["param_groups"][0]["lr"] == 0

    def test_after_a_rollback_the_rates_stay_halved(
        self, make_trainer: TrainerMaker, make_recorder: RecorderMaker
    ) -> None:
        settings: dict[str, Any] = {"scheduler": {"name": "fall", "args": {"gamma": 0.9}}, "schedules": SCHEDULES}
        first = make_trainer("model", [], "plain", max_epochs=1, **settings)
        first.fit()
        first.model.scheduler.slow_down(0.5)
        first.save()
        recorder = make_recorder()
        again = make_trainer("model", [recorder], "plain", max_epochs=2, **settings)
        again.resume()
        again.fit()
        expected = [0.5 * rate for [rate] in alone(lambda each: ExponentialLR(each, 0.9), 16, 0.01)[8:]]
        assert [rates[0] for rates in recorder.rates] == expected

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"scheduler": {"name": "fall", "args": {"gamma": 0.8}}}, r"arguments \{'gamma': 0.9\} are \{'gamma': 0.8"),
            ({"lr": 0.5}, r"fall goes on with what it began with, and its rates \[0.01\] are \[0.5\] now"),
            (
                {"scheduler": {"name": "stairs", "args": {"step_size": 3}}},
                "with fall, and training.scheduler is stairs",
            ),
            ({"scheduler": "plateau"}, "was trained with fall, and training.scheduler is plateau now"),
        ],
    )
    def test_what_the_saved_state_would_override_is_refused(
        self, changes: dict[str, Any], words: str, make_trainer: TrainerMaker
    ) -> None:
        settings: dict[str, Any] = {"scheduler": {"name": "fall", "args": {"gamma": 0.9}}, "schedules": SCHEDULES}
        make_trainer(max_steps=1, **settings).fit()
        with pytest.raises(CheckpointError, match=words):
            make_trainer(**{**settings, **changes}).resume()


class TestMistakes:
    def test_on_the_command_line(
        self, falling: Path, model_folder: Path, song_folder: Path, refused: Callable[..., str]
    ) -> None:
        before = (model_folder / "config.json").read_bytes()
        train = ("train", model_folder, song_folder, *QUIET, "--scheduler.name")
        for words, expected in {
            (
                "config",
                model_folder,
                "--scheduler",
                "fallng",
            ): "'fallng' is not installed; did you mean falling",
            ("config", model_folder, "--scheduler.args.power", "2"): "args {'power': 2} are for schedules of plugins",
            (*train, "falling", "--warmup_steps", "3"): "warmup_steps: unknown setting",
            (*train, "falling", "--scheduler.warmup_steps", "3"): "or give falling what it takes in args",
            (*train, "falling"): "falling refuses {'max_steps': None}: set max_steps",
            (*train, "falling", "--max_steps", "3", "--scheduler.args.pow", "2"): "refuses {'max_steps': 3, 'pow': 2}",
            (*train, "nothing"): "nothing makes a str, which is no schedule, for want of step, state_dict",
        }.items():
            assert expected in refused(*words)
            assert (model_folder / "config.json").read_bytes() == before

    def test_past_its_end(self, make_trainer: TrainerMaker) -> None:
        scheduler = {"name": "short", "args": {"max_lr": 0.1, "total_steps": 3, "cycle_momentum": False}}
        trainer = make_trainer(schedules={"short": (OneCycleLR, ())}, scheduler=scheduler, optimizer="sgd")
        with pytest.raises(TrainingError, match=r"training.scheduler: short cannot go on \(Tried to step 4 times"):
            trainer.fit()

    def test_without_a_registry_there_are_the_cores_own(self, make_trainer: TrainerMaker) -> None:
        with pytest.raises(ConfigError, match="'cosin' is none of plateau, cosine; did you mean cosine"):
            make_trainer(scheduler="cosin")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (
                "register('a', scheduler='b:c', summary=''); register('a', scheduler='b:c', summary='')",
                "registered twice",
            ),
            ("register('a', schedule='b:c', summary='')", "unknown argument schedule; did you mean scheduler"),
            ("register('a', scheduler='b:c', summary='', settings=['max_step'])", "did you mean max_steps"),
        ],
    )
    def test_of_its_author(self, body: str, words: str, invoke: Callable[..., Any], install_plugin: Any) -> None:
        hook = f"@hookimpl\ndef register_schedulers(register):\n    {body}\n"
        install_plugin("auralflow-wrong", f"from auralflow_core import hookimpl\n{hook}")
        [failure] = json.loads(invoke("list-plugins", "--json").stdout)["failed"]
        assert failure["name"] == "auralflow-wrong" and words in failure["reason"]


class TestNames:
    def test_it_is_listed_with_its_plugin(self, falling: Path, invoke: Callable[..., Any]) -> None:
        plugins = {each["name"]: each for each in json.loads(invoke("list-plugins", "--json").stdout)["plugins"]}
        assert plugins["auralflow-falling"]["schedulers"] == 3 and plugins["auralflow"]["schedulers"] == 2
        assert "schedulers" in invoke("list-plugins").stdout

    def test_two_of_one_name(
        self, install_plugin: Any, invoke: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
    ) -> None:
        code = "@hookimpl\ndef register_schedulers(register):\n    register('cosine', scheduler='a.b:C', summary='')\n"
        install_plugin("auralflow-waves", f"from auralflow_core import hookimpl\n{code}")
        new = ("config", tmp_path / "m", "SpectrogramNetSimple", "--scheduler")
        told = refused(*new, "cosine")
        assert "write cosine@auralflow or cosine@auralflow-waves" in told
        invoke(*new, "cosine@auralflow", "--scheduler.warmup_steps", "3")
        assert TrainingConfig(scheduler={"name": "cosine@auralflow"}).scheduler.is_cosine
        assert TrainingConfig(scheduler={"name": "cosine@waves"}).scheduler.is_registered

    def test_a_model_separates_without_the_plugin(
        self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = trained_copy / "config.json"
        config = json.loads(path.read_text())
        config["training"]["scheduler"]["name"] = "not installed"
        path.write_text(json.dumps(config))
        song = song_folder / "test" / "test song 0" / "mixture.wav"
        invoke("separate", trained_copy, song, "--save", tmp_path / "stems", "--quiet")
        assert list((tmp_path / "stems").rglob("*vocals*"))
