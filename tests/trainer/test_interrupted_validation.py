"""Who asks to stop does not wait for a validation, and the training that goes on is none the worse."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.trainer.snippets import Snippet, SnippetMaker

TrainerMaker = Callable[..., Trainer]


class StopInValidation(Callback):
    """Sends SIGTERM when a number of validation batches is done, in validations of given steps, once in each."""

    def __init__(self, done: int, *steps: int) -> None:
        self.done, self.steps = done, list(steps)
        self.seen: list[int] = []

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        self.seen.append(done)
        if done == self.done and trainer.progress.step in self.steps:
            self.steps.remove(trainer.progress.step)
            signal.raise_signal(signal.SIGTERM)


def digest(trainer: Trainer) -> str:
    path = trainer.store.path(trainer.store.latest()) / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def go_on(make_trainer: TrainerMaker, *callbacks: Callback, **settings: Any) -> tuple[Trainer, int]:
    """Train to the end, resuming after every stop; return the trainer, and how often it stopped."""
    for stops in range(10):
        torch.manual_seed(1000 + stops)
        trainer = make_trainer("broken", callbacks, **settings)
        if trainer.store.steps():
            trainer.resume()
        if trainer.fit().reason != "interrupted":
            return trainer, stops
    raise AssertionError("never came to an end")


# Epochs of 8 steps; validations of 3 batches.
@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        ((8, 16), {"max_epochs": 3}),
        ((3, 6, 24), {"max_epochs": 3, "validation": {"every_n_steps": 3, "metric": "usdr"}}),
        ((8,), {"max_epochs": 3, "ema": {"decay": 0.9}}),
        ((11,), {"max_steps": 11}),
        ((8,), {"max_steps": 8}),
    ],
)
def test_it_is_done_again_when_training_goes_on(
    make_trainer: TrainerMaker, steps: tuple[int, ...], settings: dict[str, Any]
) -> None:
    unbroken = make_trainer("unbroken", **settings)
    expected = unbroken.fit()
    trainer, stops = go_on(make_trainer, StopInValidation(1, *steps), **settings)
    assert stops == len(steps)
    assert digest(trainer) == digest(unbroken)
    assert (trainer.progress.best_step, trainer.progress.best_loss) == (expected.best_step, expected.best_loss)
    assert trainer.store.latest() == unbroken.store.latest() == trainer.progress.validated_step


def test_it_stops_before_the_next_batch_and_does_not_count(make_trainer: TrainerMaker) -> None:
    callback = StopInValidation(2, 8)
    trainer = make_trainer(callbacks=[callback])
    assert trainer.fit().reason == "interrupted"
    assert callback.seen == [1, 2]
    assert trainer.progress.validated_step == -1 and trainer.store.latest() == 8


def test_one_that_is_done_counts(make_trainer: TrainerMaker) -> None:
    trainer = make_trainer(callbacks=[StopInValidation(3, 8)], max_epochs=3)
    assert trainer.fit().reason == "interrupted"
    assert trainer.progress.validated_step == 8


def test_without_batches_the_statistics_of_batch_normalisation_stay(make_trainer: TrainerMaker) -> None:
    found: list[Tensor] = []

    class Look(Callback):
        def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
            found.append(trainer.model.network.get_buffer("norm.running_mean").clone())

    make_trainer(callbacks=[Look()], max_steps=2, batch_norm_batches=0).fit()
    assert found and all(mean.abs().sum() > 0 for mean in found)


def test_snippets_are_not_waited_for(make_trainer: TrainerMaker) -> None:
    class Stop(Callback):
        def __init__(self) -> None:
            self.made: list[int] = []

        def on_step(self, trainer: Trainer, step: Step) -> None:
            if step.step == 2:
                signal.raise_signal(signal.SIGTERM)

        def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
            self.made.append(trainer.progress.step)

    stop = Stop()
    trainer, stops = go_on(make_trainer, stop, SnippetMaker(), max_epochs=1)
    assert stops == 1 and stop.made == [trainer.progress.step]
