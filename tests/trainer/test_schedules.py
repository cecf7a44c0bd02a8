"""Learning rates, steps, checkpoints and validations over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from auralflow_core.config import TrainingConfig
from auralflow_core.errors import ConfigError, TrainingError
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.trainer import loop as loop_module

TrainerMaker = Callable[..., Trainer]
RecorderMaker = Callable[[], Any]


class CrashError(Exception):
    pass


class StopAt(Callback):
    """Ends a training like a crash."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step == self.step:
            raise CrashError


class TestCosine:
    def test_the_formula(self, make_trainer: TrainerMaker, make_recorder: RecorderMaker) -> None:
        recorder = make_recorder()
        settings = {"scheduler": {"warmup_steps": 4, "final_lr": 0.001}, "lr": 0.1, "max_steps": 14, "max_epochs": 9}
        settings["optimizer"] = {"lr_by_name": {"last.*": 0.02}}
        make_trainer("model", [recorder], "plain", **settings).fit()
        for column, peak in enumerate((0.1, 0.02)):
            warm = [peak * min(1, step / 4) for step in range(1, 5)]
            falling = [0.001 + (peak - 0.001) * (1 + math.cos(math.pi * done / 10)) / 2 for done in range(10)]
            assert [rates[column] for rates in recorder.rates] == pytest.approx([*warm, *falling])

    def test_without_max_steps_it_ends_with_the_last_epoch(
        self, make_trainer: TrainerMaker, make_recorder: RecorderMaker
    ) -> None:
        recorder = make_recorder()
        make_trainer("model", [recorder], "plain", scheduler="cosine", max_epochs=2).fit()
        assert len(recorder.rates) == 16
        assert recorder.rates[-1][0] == pytest.approx(0.01 * (1 + math.cos(math.pi * 15 / 16)) / 2)

    def test_it_goes_on_after_a_resume_with_a_changed_peak(
        self, make_trainer: TrainerMaker, make_recorder: RecorderMaker
    ) -> None:
        settings: dict[str, Any] = {"scheduler": {"warmup_steps": 2}, "max_steps": 16}
        make_trainer("model", [], "plain", **{**settings, "max_epochs": 1}).fit()
        recorder = make_recorder()
        trainer = make_trainer("model", [recorder], "plain", lr=0.5, **settings)
        trainer.resume()
        trainer.fit()
        assert recorder.rates[0][0] == pytest.approx(0.5 * (1 + math.cos(math.pi * 6 / 14)) / 2)

    def test_what_cannot_work_is_refused(self, make_trainer: TrainerMaker) -> None:
        with pytest.raises(ConfigError, match="30 steps of warm-up, but the training ends after 16"):
            make_trainer(scheduler={"warmup_steps": 30}).fit()
        with pytest.raises(ConfigError, match="belong to the cosine schedule"):
            make_trainer(scheduler={"name": "plateau", "warmup_steps": 5})
        growing = {"increase_every": 3, "max_sequence_length": 1}
        with pytest.raises(ConfigError, match="sequence_scheduler changes; set max_steps"):
            make_trainer(scheduler="cosine", sequence_scheduler=growing)


class TestSteps:
    @pytest.mark.parametrize("name", ["max_steps", "train_max_steps"])
    def test_the_last_step(self, make_trainer: TrainerMaker, make_recorder: RecorderMaker, name: str) -> None:
        recorder = make_recorder()
        summary = make_trainer(callbacks=[recorder], max_epochs=5, **{name: 11}).fit()
        assert (summary.reason, summary.steps) == ("max_steps", 11)
        assert [epoch.step for epoch in recorder.epochs] == [8, 11]
        again = make_trainer(max_epochs=5, **{name: 11})
        again.resume()
        assert again.fit().steps == 11

    def test_checkpoints_inside_an_epoch(self, make_trainer: TrainerMaker) -> None:
        settings: dict[str, Any] = {"checkpointing": {"save_every_n_steps": 3, "keep": 2}}
        with pytest.raises(CrashError):
            make_trainer(callbacks=[StopAt(15)], **settings).fit()
        trainer = make_trainer(**settings)
        assert trainer.store.steps() == [8, 9, 12]  # 8 is the best, and the only validated one
        trainer.resume()
        assert (trainer.progress.step, trainer.progress.batch) == (12, 4)

    def test_the_latest_checkpoints_are_kept(self, make_trainer: TrainerMaker) -> None:
        trainer = make_trainer(max_epochs=5, checkpointing={"keep": 3})
        trainer.fit()
        assert trainer.store.steps()[-3:] == [24, 32, 40]


class TestValidation:
    def test_inside_an_epoch(
        self, make_trainer: TrainerMaker, make_recorder: RecorderMaker, stubborn: torch.nn.Module
    ) -> None:
        recorder = make_recorder()
        settings = {"validation": {"every_n_steps": 3}, "stop_patience": 2, "max_lr_steps": 1}
        summary = make_trainer("model", [recorder], stubborn, **settings).fit()
        assert [epoch.step for epoch in recorder.epochs] == [3, 6, 8, 9, 12]
        # Patience counts validations.
        assert [epoch.lr for epoch in recorder.epochs] == [0.01, 0.01, 0.01, 0.005, 0.005]
        assert summary.reason == "plateau"

    def test_not_more_often_than_told(
        self, make_trainer: TrainerMaker, make_recorder: RecorderMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

        class Tick(Callback):
            def on_step(self, trainer: Trainer, step: Step) -> None:
                clock[0] += 1

        recorder = make_recorder()
        settings = {"validation": {"every_n_steps": 2, "throttle_secs": 5}, "max_epochs": 3}
        trainer = make_trainer(callbacks=[Tick(), recorder], **settings)
        trainer.fit()
        # Epochs end after 8, 16 and 24; the last validation is always done.
        assert [epoch.step for epoch in recorder.epochs] == [2, 8, 14, 20, 24]
        assert trainer.progress.epoch == 3

    @pytest.mark.parametrize("metric", ["si_sdr", "usdr"])
    def test_the_metric_decides(self, make_trainer: TrainerMaker, make_recorder: RecorderMaker, metric: str) -> None:
        recorder = make_recorder()
        trainer = make_trainer(callbacks=[recorder], max_epochs=6, lr=0.05, validation={"metric": metric})
        summary = trainer.fit()
        scores = [epoch.score for epoch in recorder.epochs]
        best = max(range(6), key=lambda number: scores[number] or -99)
        assert summary.best_score == scores[best]
        assert trainer.store.best() == summary.best_step == recorder.epochs[best].step
        assert summary.best_loss == recorder.epochs[best].valid_loss
        # The definition, over the chunks as one batch.
        trainer.model.load_model(trainer.store.latest())
        trainer.model.eval()
        values = []
        for mixture, target in trainer._valid_loader:
            estimate = trainer.model.separate(mixture).flatten(1).double()
            target = target.flatten(1).double()
            if metric == "si_sdr":
                scale = (estimate * target).sum(1, keepdim=True) / target.square().sum(1, keepdim=True)
                values.append(
                    10 * ((scale * target).square().sum(1) / (scale * target - estimate).square().sum(1)).log10()
                )
            else:
                values.append(10 * (target.square().sum(1) / (target - estimate).square().sum(1)).log10())
        assert scores[-1] == pytest.approx(float(torch.cat(values).mean()), abs=1e-3)

    def test_the_plateau_is_one_of_the_metric(self, make_trainer: TrainerMaker, stubborn: torch.nn.Module) -> None:
        settings = {"validation": {"metric": "usdr"}, "stop_patience": 2, "max_lr_steps": 0, "max_epochs": 9}
        summary = make_trainer("model", [], stubborn, **settings).fit()
        assert (summary.reason, summary.epochs) == ("plateau", 3)

    def test_silence_has_no_score(self, make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = make_trainer(validation={"metric": "si_sdr"}, max_steps=1)
        batches = [(mixture, 0 * target) for mixture, target in trainer._valid_loader]
        monkeypatch.setattr(trainer, "_valid_loader", batches)
        with pytest.raises(TrainingError, match="si_sdr has no value, since all targets"):
            trainer.fit()


def test_defaults_leave_everything_as_it_was() -> None:
    config = TrainingConfig()
    assert (config.backprop_every, config.clip_value, config.ema, config.max_steps) == (1, None, None, None)
    assert (config.scheduler.is_cosine, config.optimizer.name, config.validation.metric) == (False, "adam", "loss")
