"""TensorBoard runs: losses, learning rate, audio and spectrograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auralflow_core.config import Config
from auralflow_core.layout import ModelFolder
from auralflow_core.trainer.callbacks import Callback, Epoch, Step
from auralflow_core.trainer.figures import snippet_figure

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from auralflow_core.trainer.loop import Trainer
    from auralflow_core.trainer.progress import Summary
    from auralflow_core.trainer.snippets import Snippet


class TensorBoardLogger(Callback):
    """Writes event files to `runs/` of the model folder, or to the session's shared `runs/`.

    Args:
        config: The configuration.
        folder: The model folder.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self._runs = ModelFolder(folder).runs
        self._writer: SummaryWriter | None = None

    def on_start(self, trainer: Trainer) -> None:
        """Open the event file; after a resume, steps that were not saved are taken out of the curves."""
        from torch.utils.tensorboard import SummaryWriter

        step = trainer.progress.step
        self._writer = SummaryWriter(str(self._runs), purge_step=step + 1 if step else None)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Log the loss and the network's own terms."""
        assert self._writer is not None
        self._writer.add_scalar("loss/step", step.loss, step.step)
        for name, value in step.terms.items():
            self._writer.add_scalar(f"terms/{name}", value, step.step)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Log the epoch's losses and learning rate."""
        assert self._writer is not None
        self._writer.add_scalar("loss/train", epoch.train_loss, epoch.step)
        self._writer.add_scalar("loss/validation", epoch.valid_loss, epoch.step)
        self._writer.add_scalar("lr", epoch.lr, epoch.step)

    def on_scores(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Log the scores of validation songs."""
        assert self._writer is not None
        for name, value in scores.items():
            if math.isfinite(value):
                self._writer.add_scalar(f"scores/{name}", value, trainer.progress.step)

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Log audio and spectrograms."""
        assert self._writer is not None
        step = trainer.progress.step
        for snippet in snippets:
            for name, estimate in snippet.estimates.items():
                tag = f"{snippet.song}/{name}"
                self._writer.add_audio(tag, estimate.mean(0, keepdim=True), step, sample_rate=snippet.sample_rate)
                self._writer.add_figure(tag, snippet_figure(snippet, name, trainer.model.stft), step, close=False)

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Close the event file."""
        assert self._writer is not None
        self._writer.close()
