"""Where a training stands, and what it did."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

StopReason = Literal["max_epochs", "max_steps", "plateau", "max_minutes", "interrupted"]


@dataclass
class Progress:
    """Where a training stands; kept in every checkpoint.

    `best_loss` is the validation loss of the best checkpoint, `best_value` what made it the best: the lower the better.
    Seconds are those of the training, not of the clock. `avoided` are epochs and batches that are left out, since the
    training went back from them, which it did `rollbacks` times.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    chunks: int = 0
    best_loss: float = math.inf
    best_step: int = -1
    seconds: float = 0.0
    finished: bool = False
    best_value: float = math.inf
    stage: int = 0
    validated_at: float = -math.inf
    validated_step: int = -1
    data_seconds: float = 0.0
    compute_seconds: float = 0.0
    skipped: int = 0
    began_from: int = -1
    rollbacks: int = 0
    avoided: list[list[int]] = field(default_factory=list)

    def next_epoch(self) -> None:
        """Go on to the first batch of the next epoch."""
        self.epoch, self.batch, self.loss_sum, self.chunks = self.epoch + 1, 0, 0.0, 0

    def summary(self, reason: StopReason, *, has_score: bool) -> Summary:
        """Return what was done; `has_score` says whether the best value is one in dB."""
        return Summary(
            reason,
            self.epoch,
            self.step,
            self.best_step,
            self.best_loss,
            self.seconds,
            -self.best_value if has_score else None,
            self.data_seconds,
            self.compute_seconds,
            self.skipped,
        )


@dataclass(frozen=True)
class Summary:
    """What a training did.

    Attributes:
        best_score: The metric of the best checkpoint in dB, where `validation.metric` is not the loss.
        data_seconds: Seconds that steps waited for data.
        compute_seconds: Seconds that steps took besides.
        skipped: Batches that were left out since their loss or gradient was no number.
        song_scores: Medians over whole validation songs with the best weights, by `metric/target`; see
            `validation.full_songs`.
    """

    reason: StopReason
    epochs: int
    steps: int
    best_step: int
    best_loss: float
    seconds: float
    best_score: float | None = None
    data_seconds: float = 0.0
    compute_seconds: float = 0.0
    skipped: int = 0
    song_scores: Mapping[str, float] = field(default_factory=dict)
