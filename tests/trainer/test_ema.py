"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from auralflow_core.trainer import Callback, Step, Trainer

TrainerMaker = Callable[..., Trainer]


class Follow(Callback):
    """Computes the average of the weights by its definition."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    def on_start(self, trainer: Trainer) -> None:
        self.average = {name: each.detach().clone() for name, each in trainer.model.network.named_parameters()}

    def on_step(self, trainer: Trainer, step: Step) -> None:
        decay = min(self.decay, (1 + step.step) / (10 + step.step))
        for name, each in trainer.model.network.named_parameters():
            self.average[name] = decay * self.average[name] + (1 - decay) * each.detach()


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_saved_and_the_weights_go_their_own_way(make_trainer: TrainerMaker, decay: float) -> None:
    follow = Follow(decay)
    plain, averaged = make_trainer("plain"), make_trainer("averaged", [follow], ema={"decay": decay})
    plain.fit()
    averaged.fit()
    saved = averaged.store.load(16, "model")
    assert all(torch.allclose(saved[name], follow.average[name], atol=1e-6) for name in follow.average)
    # Averaging changes nothing in what is trained.
    trained = dict(averaged.model.network.named_parameters())
    for name, each in plain.model.network.named_parameters():
        assert torch.equal(each, trained[name]) and not torch.allclose(each, saved[name], atol=1e-4)


def test_the_average_is_what_is_validated(
    make_trainer: TrainerMaker, make_recorder: Callable[[], Follow], trained_loss: Callable[[Trainer], float]
) -> None:
    recorder = make_recorder()
    trainer = make_trainer(callbacks=[recorder], ema={"decay": 0.9})
    summary = trainer.fit()
    other = make_trainer()
    other.model.load_model(summary.best_step)
    assert trained_loss(other) == pytest.approx(summary.best_loss, rel=1e-5)


def test_it_may_be_switched_off_in_between(make_trainer: TrainerMaker) -> None:
    plain, averaged = make_trainer("plain"), make_trainer("averaged", ema={"decay": 0.9}, max_epochs=1)
    plain.fit()
    averaged.fit()
    rest = make_trainer("averaged")
    rest.resume()
    rest.fit()
    found = rest.store.load(16, "model")
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.store.load(16, "model").items())
