"""What a training did, line by line: which batches its steps took, and which of them were left out and why.

`journal.jsonl` in the model folder. Each line is a JSON object with an `event` and the last `step` that was done:

began      a run began or went on, with this `config` and this `data`
from       the steps that follow take one batch after another, from `batch` of `epoch` on, of `batches` in it
skipped, rolled back, stopped
           the loss or gradient of the batches in `left_out` was no number; where `epoch` and `batch` stand beside it,
           the steps that follow go on from there
ended      the run ended

Epochs, batches and stages count from 0, steps from 1. What a resumed training does again is written again, and the
later line counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auralflow_core.errors import CheckpointError
from auralflow_core.files import explain_os_errors, json_text


@dataclass(frozen=True)
class Position:
    """Where the steps after `step` begin: at a batch of an epoch of so many, whose chunks have grown `stage` times."""

    step: int
    epoch: int
    batch: int
    stage: int
    batches: int


@dataclass(frozen=True)
class LeftOut:
    """Batches that step `step` was tried with in vain, and the chunks in them."""

    step: int
    epoch: int
    batch: int
    stage: int
    count: int
    why: str
    chunks: list[dict[str, Any]]  # as `ChunkDataset.describe` gives them

    @property
    def what(self) -> str:
        """Which step and which batch, as they are printed."""
        return f"{self.why} at step {self.step} (epoch {self.epoch + 1}, batch {self.batch + 1})"

    @property
    def named(self) -> str:
        """The chunks, as they are printed."""
        return ", ".join(map(named, self.chunks))


class Journal:
    """The journal of a model folder.

    Args:
        path: The file; made when something is written.
        is_kept: Whether to write at all; of several processes one does.
    """

    def __init__(self, path: Path, *, is_kept: bool = True) -> None:
        self.path = path
        self._is_kept = is_kept

    def begin(self, step: int, config: Mapping[str, Any], data: Mapping[str, Any], *, anew: bool) -> None:
        """Write that a run begins; a training that begins anew has a journal of its own."""
        if anew and self._is_kept:
            self.path.unlink(missing_ok=True)
        folders = [data["path"]] if "path" in data else data.get("paths", [])
        where = {"folders": [str(Path(folder).resolve()) for folder in folders]}
        self._write("began", step, config=config, data={**data, **where})

    def go_on(self, position: Position) -> None:
        """Write where the following steps take their batches."""
        self._write("from", **asdict(position))

    def leave_out(self, event: str, left_out: LeftOut, position: Position | None = None) -> None:
        """Write that batches were left out, and where it goes on, if it does."""
        where = asdict(position) if position else {"step": left_out.step - 1}
        self._write(event, **where, left_out=asdict(left_out))

    def end(self, step: int) -> None:
        """Write that the run ended."""
        self._write("ended", step)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was written; a line that a killed process left unfinished is passed over.

        Raises:
            CheckpointError: Nothing was.
        """
        if not self.path.is_file():
            raise CheckpointError(
                f"{self.path}: no such file; it is written while a model is trained: train the model first"
            )
        found = (_parsed(line) for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines())
        return [line for line in found if line]

    def _write(self, event: str, step: int, **facts: Any) -> None:
        if not self._is_kept:
            return
        strict = json_text({"event": event, "step": step, **facts})
        line = json.dumps(json.loads(strict), ensure_ascii=False)  # on one line
        with explain_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    # After the torn line of a process that was killed a new one begins.
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode(errors="backslashreplace") + b"\n")


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "event" in found else {}


def named(chunk: Mapping[str, Any]) -> str:
    """Return a chunk's songs, places, gains and augmentations in words, of what `ChunkDataset.describe` gives."""
    excerpts = chunk["excerpts"]
    places = [
        f"{each['song']} at {each['seconds']:.2f} s"
        + (f" ({', '.join(each['stems'])})" if len(excerpts) > 1 else "")
        + (f" times {each['gain']:.3g}" if each["gain"] != 1 else "")
        for each in excerpts
    ]
    altered = [
        f"{part} {drawn['effect']}" for part, effects in chunk.get("augmentations", {}).items() for drawn in effects
    ]
    return " + ".join(places) + (f" with {', '.join(altered)}" if altered else "")
