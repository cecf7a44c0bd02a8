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
from auralflow_core.trainer import Trainer

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
    with pytest.raises(TrainingError, match=r"nan at step 3 .*batch 3\); .*set on_nan to skip; the chunks: ") as caught:
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
