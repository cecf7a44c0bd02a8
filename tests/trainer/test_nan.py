"""Batches whose loss or gradient is no number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.errors import TrainingError
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.trainer.no_number import MOST_ROLLBACKS

TrainerMaker = Callable[..., Trainer]


class NoNumber(torch.autograd.Function):
    """One forward, NaN backward."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return torch.full_like(gradients[0], math.nan)


class Failing(nn.Module):
    """Gives NaN in some passes of training, in the loss or in the gradient alone."""

    def __init__(self, passes: set[int], *, gradient: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.passes, self.gradient, self.done = passes, gradient, 0

    def forward(self, magnitude: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if self.training:
            self.done += 1
            if self.done in self.passes:
                weight = NoNumber.apply(weight) if self.gradient else weight * math.nan  # type: ignore[no-untyped-call]
        return weight.sigmoid() * torch.ones_like(magnitude)


def test_the_chunks_are_named_when_training_stops(make_trainer: TrainerMaker) -> None:
    trainer = make_trainer("model", [], Failing({3}))
    with pytest.raises(
        TrainingError, match=r"nan at step 3 .*batch 3\); .*to skip or rollback; .*; the chunks: "
    ) as caught:
        trainer.fit()
    named = re.findall(r"(song \d) at (\d\.\d\d) s", str(caught.value))
    places = [trainer.train_data.excerpt(key) for key in trainer.feed.keys(0, 2)]
    assert named == [(place.song.name, f"{place.start / 1000:.2f}") for place in places] and len(named) == 4


@pytest.mark.parametrize("gradient", [False, True])
def test_they_are_skipped_if_told(make_trainer: TrainerMaker, make_recorder: Callable[[], Any], gradient: bool) -> None:
    recorder = make_recorder()
    trainer = make_trainer("model", [recorder], Failing({3, 8}, gradient=gradient), on_nan="skip")
    summary = trainer.fit()
    assert (summary.steps, summary.skipped, summary.epochs) == (14, 2, 2)
    assert [step.batch for step in recorder.steps] == [1, 2, 4, 5, 6, 7, *range(1, 9)]
    assert len(recorder.skipped) == 2 and "at step 3 (epoch 1, batch 3): skipped song" in recorder.skipped[0]
    assert math.isfinite(recorder.epochs[-1].train_loss)
    assert all(tensor.isfinite().all() for tensor in trainer.store.load(14, "model").values())


def test_a_batch_that_is_one_of_several_takes_the_others_along(make_trainer: TrainerMaker) -> None:
    summary = make_trainer("model", [], Failing({4}), on_nan="skip", backprop_every=2, max_epochs=1).fit()
    assert (summary.steps, summary.skipped) == (3, 2)


def test_an_epoch_of_nothing_else_ends_training(make_trainer: TrainerMaker) -> None:
    with pytest.raises(TrainingError, match="epoch 1 has no batch whose loss is a number"):
        make_trainer("model", [], Failing(set(range(99))), on_nan="skip").fit()


@pytest.mark.parametrize("batches", [0, 4])
def test_a_skipped_batch_leaves_no_trace_in_statistics(make_trainer: TrainerMaker, batches: int) -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.passes = nn.BatchNorm2d(1), 0

        def forward(self, magnitude: Tensor) -> Tensor:
            self.passes += self.training
            found: Tensor = self.norm(magnitude * (math.nan if self.passes == 3 else 1.0))
            return found.sigmoid()

    trainer = make_trainer("model", [], Normalised(), on_nan="skip", batch_norm_batches=batches, max_epochs=1)
    assert trainer.fit().skipped == 1
    assert all(tensor.isfinite().all() for tensor in trainer.store.load(7, "model").values())


def test_a_gradient_that_broke_the_weights_is_named(make_trainer: TrainerMaker) -> None:
    with pytest.raises(TrainingError, match=r"at step 4 .*since the gradient of step 3 was none"):
        make_trainer("model", [], Failing({3}, gradient=True)).fit()


class Poisoned(nn.Module):
    """Gives NaN where a batch holds what it is told, and once its weight is large."""

    def __init__(self, limit: float = math.inf) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.limit, self.poison = limit, math.nan

    def forward(self, magnitude: Tensor) -> Tensor:
        weight: Tensor = self.weight
        is_bad = self.training and (float(magnitude.sum()) == self.poison or abs(float(weight.detach())) > self.limit)
        return (weight * math.nan if is_bad else weight).sigmoid() * torch.ones_like(magnitude)


def poison_of(trainer: Trainer, batch: int) -> float:
    """Return by what the network knows a batch of the second epoch."""
    mixtures = torch.stack([trainer.train_data.mixture(key) for key in trainer.feed.keys(1, batch)])
    return float(trainer.model.stft(mixtures).abs().sum())


class TestRollback:
    def test_back_to_the_last_checkpoint_and_past_the_batch(
        self, make_trainer: TrainerMaker, make_recorder: Callable[[], Any]
    ) -> None:
        recorder = make_recorder()
        trainer = make_trainer("model", [recorder], Poisoned(), on_nan="rollback")
        network: Any = trainer.model.network
        network.poison = poison_of(trainer, 5)
        summary = trainer.fit()
        assert (summary.steps, summary.skipped, trainer.progress.rollbacks) == (15, 1, 1)
        # From the checkpoint of step 8 on it goes twice, the second time without the batch, and half as fast.
        assert [step.step for step in recorder.steps] == [*range(1, 14), *range(9, 16)]
        assert [step.batch for step in recorder.steps[13:]] == [1, 2, 3, 4, 5, 7, 8]
        assert [rates[0] for rates in recorder.rates[:13]] == [0.01] * 13
        assert [step.lr for step in recorder.steps[13:]] == [0.005] * 7
        assert "nan at step 14 (epoch 2, batch 6): back to step 8, with the learning rate 0.005" in recorder.skipped[0]
        events = [line["event"] for line in trainer.journal.lines()]
        assert events == ["began", "from", "from", "rolled back", "from", "skipped", "ended"]
        bad = trainer.journal.lines()[3]["left_out"]
        assert (bad["step"], bad["epoch"], bad["batch"], bad["count"]) == (14, 1, 5, 1) and len(bad["chunks"]) == 4

    @pytest.mark.parametrize("scheduler", ["plateau", {"name": "cosine", "warmup_steps": 2}])
    @pytest.mark.parametrize("ema", [None, {"decay": 0.9}])
    def test_a_stop_after_it_changes_nothing(self, make_trainer: TrainerMaker, scheduler: Any, ema: Any) -> None:
        settings = {"on_nan": "rollback", "scheduler": scheduler, "ema": ema, "max_steps": 15}

        def train(folder: str, *stops: int) -> Trainer:
            waiting = list(stops)

            class Crash(Callback):
                def on_step(self, trainer: Trainer, step: Step) -> None:
                    if waiting and trainer.progress.rollbacks and step.step == waiting[0]:
                        raise OSError(str(waiting.pop(0)))

            for _ in range(9):
                trainer = make_trainer(
                    folder, [Crash()], Poisoned(), checkpointing={"save_every_n_steps": 3}, **settings
                )
                network: Any = trainer.model.network
                network.poison = poison_of(trainer, 3)
                if trainer.store.steps():
                    trainer.resume()
                try:
                    trainer.fit()
                except OSError:
                    continue
                return trainer
            raise AssertionError

        one, other = train("unbroken"), train("broken", 10, 11, 14)
        assert one.progress.rollbacks == other.progress.rollbacks == 1 and one.progress.skipped == 1
        weights, broken = (each.store.load(each.store.latest(), "model") for each in (one, other))
        assert all(torch.equal(weights[name], broken[name]) for name in weights)

    def test_before_the_first_checkpoint(self, make_trainer: TrainerMaker) -> None:
        network = Failing({3})
        summary = make_trainer("model", [], network, on_nan="rollback", max_epochs=1).fit()
        assert (summary.steps, summary.skipped) == (7, 1)

    def test_it_is_slower_each_time_until_it_gives_up(
        self, make_trainer: TrainerMaker, make_recorder: Callable[[], Any]
    ) -> None:
        recorder = make_recorder()
        trainer = make_trainer("model", [recorder], Poisoned(0.001), on_nan="rollback")
        with pytest.raises(TrainingError, match=f"^after {MOST_ROLLBACKS} rollbacks the loss is nan at step "):
            trainer.fit()
        rates = [
            float(re.findall(r"learning rate ([^,]+),", text)[0]) for text in recorder.skipped if "back to" in text
        ]
        assert rates == [0.01 / 2**number for number in range(1, MOST_ROLLBACKS + 1)]

    def test_a_validation_that_is_no_number(self, make_trainer: TrainerMaker, make_recorder: Callable[[], Any]) -> None:
        class Once(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight, self.passes = nn.Parameter(torch.zeros(1)), 0

            def forward(self, magnitude: Tensor) -> Tensor:
                self.passes += not self.training
                factor = math.nan if self.passes == 1 and not self.training else 1.0
                mask: Tensor = self.weight.sigmoid() * torch.ones_like(magnitude) * factor
                return mask

        recorder = make_recorder()
        summary = make_trainer("model", [recorder], Once(), on_nan="rollback").fit()
        assert (summary.steps, summary.reason) == (16, "max_epochs")
        assert recorder.skipped == [
            text
            for text in recorder.skipped
            if re.match("the validation loss is nan after step 8; .*back to step 0", text)
        ]
        assert len(recorder.skipped) == 1
