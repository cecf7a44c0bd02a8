"""The batches of a past step once more: what the network was fed, found through the journal of its training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

from auralflow_core.config import Config, validate
from auralflow_core.data.chunks import ChunkDataset
from auralflow_core.data.open import fingerprint
from auralflow_core.data.song import Song
from auralflow_core.device import resolve_device
from auralflow_core.errors import CheckpointError, DataError
from auralflow_core.files import atomic_folder, json_text
from auralflow_core.trainer.distributed import World
from auralflow_core.trainer.feed import Feed
from auralflow_core.trainer.journal import Journal, LeftOut, Position

_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_LONGEST = 120


@dataclass(frozen=True)
class Run:
    """One run of a training: its settings, and the facts about its data set."""

    config: Config
    data: dict[str, Any]

    @property
    def folders(self) -> list[Path]:
        """Where its songs were."""
        return [Path(folder) for folder in self.data["folders"]]


@dataclass(frozen=True)
class Attempt:
    """Successive batches that a step was done with, or, where `why` says so, tried with in vain."""

    run: Run
    epoch: int
    batch: int
    stage: int
    count: int
    why: str = ""


@dataclass(frozen=True)
class FedChunk:
    """A chunk as the network was fed it.

    Attributes:
        name: Its batch, counted in the epoch from 1, its place in it, song and first second; fit for a folder.
        facts: What it is made of, as `ChunkDataset.describe` gives it.
        mixture: `(channel, time)`.
        targets: `(target, channel, time)`.
        why: Why its batch was left out, if it was.
    """

    name: str
    facts: dict[str, Any]
    mixture: Tensor
    targets: Tensor
    why: str


@dataclass
class _Course:
    """The way that a training took, as far as the journal was read."""

    positions: list[tuple[Position, Run]] = field(default_factory=list)
    left_out: list[tuple[LeftOut, Run]] = field(default_factory=list)
    last: int | None = None

    def forget_after(self, step: int) -> None:
        """Drop what comes after a step: it is done again."""
        self.positions = [item for item in self.positions if item[0].step < step]
        self.left_out = [item for item in self.left_out if item[0].step <= step]

    def last_step(self) -> int:
        """Return the last step whose batches are known; of a run that was killed, the last of its epoch."""
        tried = [left_out.step for left_out, _ in self.left_out]
        if self.last is None and self.positions:
            position, run = self.positions[-1]
            return max(position.step + -(-(position.batches - position.batch) // _group(run)), *tried, 0)
        return max(self.last or 0, *tried, 0)


def find_attempts(journal: Journal, step: int) -> list[Attempt]:
    """Return the batches that a step was tried with in vain, and last those that it was done with.

    Raises:
        CheckpointError: The model was not trained, or not for so many steps.
    """
    course = _read(journal)
    last = course.last_step()
    if not 1 <= step <= last:
        raise CheckpointError(f"{journal.path}: has no step {step}; it knows the batches of steps 1 to {last}")
    found = [
        Attempt(run, bad.epoch, bad.batch, bad.stage, bad.count, bad.why)
        for bad, run in course.left_out
        if bad.step == step
    ]
    if course.last is None or step <= course.last:
        position, run = next(item for item in reversed(course.positions) if item[0].step < step)
        batch = position.batch + (step - 1 - position.step) * _group(run)
        count = min(_group(run), position.batches - batch)
        found.append(Attempt(run, position.epoch, batch, position.stage, count))
    return found


def fed_chunks(attempt: Attempt, songs: Sequence[Song]) -> Iterator[FedChunk]:
    """Yield the chunks of an attempt, augmented as they were; spec_augment, which comes later, is not in them.

    Args:
        attempt: From `find_attempts`.
        songs: The songs that the run was trained with.

    Raises:
        DataError: They are others.
    """
    config, songs = attempt.run.config, list(songs)
    known = attempt.run.data.get("train", {}).get("sha256")
    if known not in (None, fingerprint(songs)["sha256"]):
        raise DataError(
            "the songs are not those that this step was trained with: some were added, removed, renamed or changed; "
            "name the data set as it was with --data"
        )
    dataset = ChunkDataset(songs, config.dataset, seed=config.training.random_seed)
    settings = {"num_workers": 0, "pin_memory": False, "backprop_every": attempt.count}
    device = resolve_device(config.training.device)
    feed = Feed(dataset, config.training.model_copy(update=settings), World(), device)
    feed.enter(attempt.stage)
    batches = next(feed.groups(attempt.epoch, attempt.batch))
    for number, (mixtures, targets) in enumerate(batches, start=attempt.batch):
        facts = feed.describe(attempt.epoch, number, 1)
        for place, chunk in enumerate(zip(facts, mixtures.cpu(), targets.cpu(), strict=True), start=1):
            first = chunk[0]["excerpts"][0]
            song = _NOT_IN_NAMES.sub("_", first["song"])[:_LONGEST]
            yield FedChunk(f"{number + 1:04d}-{place:02d} {song}_{first['seconds']:.2f}s", *chunk, attempt.why)


def write_chunks(
    folder: Path, chunks: Sequence[FedChunk], config: Config, loss: Callable[[FedChunk], float] | None = None
) -> list[dict[str, Any]]:
    """Write each chunk's mixture and targets as WAV files in a folder of its own, and `chunks.json` about them.

    Args:
        folder: Where; a folder that is there is replaced.
        chunks: The chunks.
        config: The configuration that they were made with.
        loss: Gives the loss of a chunk.

    Returns:
        For each chunk its `folder`, what it is made of, why it was `left_out`, and its `loss`.
    """
    rows = []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as scratch:
        for chunk in chunks:
            (scratch / chunk.name).mkdir()
            parts = {"mixture": chunk.mixture, **dict(zip(config.dataset.targets, chunk.targets, strict=True))}
            for name, audio in parts.items():
                path = scratch / chunk.name / f"{name}.wav"
                # Not by `AudioWriter`, which refuses samples that are no numbers: here one may look for them.
                soundfile.write(path, audio.numpy().T, config.dataset.sample_rate, subtype="FLOAT")
            row = {"folder": chunk.name, **chunk.facts, "left_out": chunk.why or None}
            rows.append({**row, "loss": loss(chunk)} if loss else row)
        (scratch / "chunks.json").write_text(json_text(rows) + "\n", encoding="utf-8")
    return rows


def _read(journal: Journal) -> _Course:
    course, run = _Course(), None
    for line in journal.lines():
        event, step = line.pop("event"), line["step"]
        bad = line.pop("left_out", None)
        if event == "began":
            run = Run(validate(Config, line["config"], source=journal.path), line["data"])
            course.forget_after(step)
        if run is None:
            continue
        if bad:
            course.left_out.append((LeftOut(**bad), run))
        if "batch" in line:
            course.positions = [item for item in course.positions if item[0].step < step]
            course.positions.append((Position(**line), run))
        course.last = step if event in ("ended", "stopped") else None
    return course


def _group(run: Run) -> int:
    return run.config.training.backprop_every
