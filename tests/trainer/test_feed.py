"""The sequence schedule: chunks grow while batches shrink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.config.training_groups import SequenceSchedulerConfig
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.trainer.feed import grown, increases_at

TrainerMaker = Callable[..., Trainer]


class Shapes(Callback):
    """Keeps the batch size and the length of the chunks in seconds of every step."""

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []

    def on_step(self, trainer: Trainer, step: Step) -> None:
        assert trainer.model.prediction is not None
        batch, _, length = trainer.model.prediction.mixture_audio.shape
        self.found.append((batch, length / 1000))


GROWING: dict[str, Any] = {"increase_every": 3, "max_sequence_length": 0.8}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(4, 0.2)] * 3 + [(2, 0.4)] * 3 + [(1, 0.8)] * 4),
        ({"start_after": 2}, [(4, 0.2)] * 5 + [(2, 0.4)] * 3 + [(1, 0.8)] * 2),
        ({"stop_after": 5}, [(4, 0.2)] * 3 + [(2, 0.4)] * 7),
        ({"max_sequence_length": 0.3}, [(4, 0.2)] * 3 + [(2, 0.3)] * 7),
        ({"increase_by_multiplier": 1.5}, [(4, 0.2)] * 3 + [(2, 0.3)] * 3 + [(1, 0.45)] * 3 + [(1, 0.675)]),
        ({"batch_size_multiplier": 1}, [(4, 0.2)] * 3 + [(4, 0.4)] * 3 + [(4, 0.8)] * 4),
    ],
)
def test_each_step_has_its_length_and_batch(
    make_trainer: TrainerMaker, changes: dict[str, Any], expected: list[tuple[int, float]]
) -> None:
    shapes = Shapes()
    trainer = make_trainer(callbacks=[shapes], max_steps=10, sequence_scheduler={**GROWING, **changes}, max_epochs=9)
    trainer.fit()
    # The last batch of an epoch may have fewer chunks.
    assert [length for _, length in shapes.found] == [length for _, length in expected]
    assert all(found <= wanted for (found, _), (wanted, _) in zip(shapes.found, expected, strict=True))
    assert [found for found, _ in shapes.found[:5]] == [wanted for wanted, _ in expected[:5]]


def test_growth_inside_an_epoch_keeps_the_share_that_is_done(make_trainer: TrainerMaker) -> None:
    trainer = make_trainer(sequence_scheduler=GROWING, max_epochs=1)
    assert trainer.feed.batches == 8
    trainer.fit()
    # To 3 of 8 batches, of half as many chunks to 6 of 8, of single chunks from 4 to 6 of 6.
    assert (trainer.progress.epoch, trainer.progress.step) == (1, 8)


@given(
    st.floats(0.1, 100),
    st.integers(1, 1000),
    st.integers(0, 60),
    st.floats(1.01, 10),
    st.floats(0.01, 1),
    st.floats(0.1, 3600),
)
def test_limits(length: float, batch: int, increases: int, longer: float, smaller: float, longest: float) -> None:
    config = SequenceSchedulerConfig(
        increase_every=1,
        max_sequence_length=longest,
        increase_by_multiplier=longer,
        batch_size_multiplier=smaller,
    )
    now, size, count = grown(length, batch, increases, config)
    assert length <= now <= max(length, longest)
    assert 1 <= size <= batch
    assert count <= increases
    assert grown(length, batch, count, config) == (now, size, count)


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**5), st.none() | st.integers(1, 10**6))
def test_increases_never_fall(step: int, every: int, start: int, stop: int | None) -> None:
    config = SequenceSchedulerConfig(increase_every=every, start_after=start, stop_after=stop, max_sequence_length=1)
    now, later = increases_at(step, config), increases_at(step + 1, config)
    assert 0 <= now <= later <= now + 1
    if step < start + every:
        assert now == 0
