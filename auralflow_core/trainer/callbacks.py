"""What the trainer tells those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Summary, Trainer
    from auralflow_core.trainer.snippets import Snippet


@dataclass(frozen=True)
class Step:
    """One update of the parameters."""

    step: int
    epoch: int
    batch: int
    loss: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Epoch:
    """One pass over the training chunks and the validation that followed; epochs count from 1."""

    epoch: int
    step: int
    train_loss: float
    valid_loss: float
    lr: float
    seconds: float
    is_best: bool


class Callback:
    """Base of everything that listens to a training; override what you need."""

    def on_start(self, trainer: Trainer) -> None:
        """Training begins, or goes on."""

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """The parameters were updated."""

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        """A number of the validation batches is done."""

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """An epoch ended, and its checkpoint is saved."""

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Excerpts of validation songs were separated."""

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Training ended, for whatever reason but an error."""
