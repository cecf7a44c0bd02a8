"""Where things lie in a model folder, and in a session of several models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SESSION_FILE = "session.json"


@dataclass(frozen=True)
class ModelFolder:
    """The paths of a model folder."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoint"

    @property
    def journal(self) -> Path:
        """What its training did, line by line."""
        return self.path / "journal.jsonl"

    @property
    def evaluation(self) -> Path:
        """Table of scores."""
        return self.path / "evaluation.csv"

    @property
    def audio(self) -> Path:
        """Folder of separated snippets."""
        return self.path / "audio"

    @property
    def images(self) -> Path:
        """Folder of spectrograms and waveforms."""
        return self.path / "images"

    @property
    def runs(self) -> Path:
        """Folder of this model's TensorBoard runs: within the session's `runs/` if the model is in a session."""
        parent = self.path.resolve().parent
        if (parent / SESSION_FILE).is_file():
            return parent / "runs" / self.path.resolve().name
        return self.path / "runs"
