"""Separate a library of songs: models and files in, stems and a report out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from auralflow_core.audio import STDIN, find_audio, on_disk
from auralflow_core.build import load_model
from auralflow_core.errors import AudioError, ConfigError
from auralflow_core.separate import (
    BaseSeparator,
    Ensemble,
    Job,
    Options,
    Outcome,
    Plan,
    Separator,
    SongRecord,
    locked,
    make_plan,
    run_here,
    run_in_processes,
)
from auralflow_core.separate.ensemble import Weight
from auralflow_core.separate.report import DONE, FAILED, has_report, song_key
from auralflow_core.separate.runner import default_threads

if TYPE_CHECKING:
    from auralflow_core.model import SeparationModel

Inputs = Iterable[str | Path]


@dataclass(frozen=True)
class Recipe:
    """Which models separate, and how; it can be sent to other processes, and each makes its own separator of it.

    Attributes:
        models: A model folder or the name of public weights; several are averaged.
        changes: Settings of the group `separation` in place of the models' own.
        weights: For each of several models its weight, or its weight for each target by name.
        mode: Whether several models' waveforms or spectra are averaged.
        step: The checkpoint's step, of a single model; by default the best one.
        device: Where they run; by default `training.device`.
        batch_size: Segments that go through a network together, on an accelerator.
        threads: Segments that are estimated at the same time, on a CPU.
    """

    models: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[Weight, ...] | None = None
    mode: Literal["waveform", "spectrum"] = "waveform"
    step: int | None = None
    device: str | None = None
    batch_size: int | None = None
    threads: int | None = None

    def build(self) -> BaseSeparator:
        """Return the separator.

        Raises:
            AuralflowError: A model cannot be loaded, or a setting is out of range.
        """
        return self.joined(self.load())

    def load(self) -> list[Separator]:
        """Return a separator for each model."""
        if self.step is not None and len(self.models) > 1:
            raise ConfigError("--step chooses a checkpoint of one model; leave it out with --ensemble")
        settings: dict[str, Any] = {**self.changes, "threads": self.threads}
        if self.batch_size is not None:
            settings["batch_size"] = self.batch_size
        # Of several models only the mean has to add up to the mixture.
        if len(self.models) > 1:
            settings.pop("sum_to_mixture", None)
        models = (load_model(name, step=self.step, device=self.device) for name in self.models)
        return [Separator(model, **settings) for model in models]

    def joined(self, separators: Sequence[Separator]) -> BaseSeparator:
        """Return the one separator, or the mean of several."""
        if len(separators) == 1 and self.weights is None:
            return separators[0]
        return Ensemble(separators, self.weights, self.mode, sum_to_mixture=bool(self.changes.get("sum_to_mixture")))

    def shared_among(self, processes: int) -> Recipe:
        """Return the recipe for each of several processes, with its share of the threads."""
        return replace(self, threads=max(1, (self.threads or default_threads()) // processes))


class SeparationCallback:
    """Is told what a run does; a subclass listens to what it likes."""

    def on_start(self, plan: Plan) -> None:
        """All is known, and nothing done yet."""

    def on_progress(self, job: Job, seconds: float) -> None:
        """So many seconds of a song are done; when several songs are separated at once, they take turns here."""

    def on_song(self, job: Job, record: SongRecord) -> None:
        """A song has ended, well or not; it is in the report."""


@dataclass(frozen=True)
class Summary:
    """What became of the songs of a run.

    Attributes:
        save: The folder of the stems and of `report.json`.
        songs: The records of all songs, also of those that an earlier run had done, in the order they were named.
        separated: How many songs this run separated.
        stopped: Why the run ended before its end, if it did.
    """

    save: Path
    songs: tuple[SongRecord, ...]
    separated: int
    stopped: str | None = None

    @property
    def failed(self) -> tuple[SongRecord, ...]:
        """The songs that could not be separated."""
        return tuple(song for song in self.songs if song.state == FAILED)

    @property
    def complete(self) -> bool:
        """Whether all stems of all songs are there."""
        return all(song.state == DONE for song in self.songs)


def separate_files(
    recipe: Recipe | str | Path,
    inputs: Inputs,
    save: str | Path = "separated",
    options: Options | None = None,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    callback: SeparationCallback | None = None,
) -> Summary:
    """Separate audio files, and those in folders, and write what became of each to `save/report.json`.

    Songs that an earlier run separated from the same file, with the same weights and settings, are left as they are.
    One that fails does not stop the others. The report is written after each song.

    Args:
        recipe: The model or models.
        inputs: Files, folders, globs and playlists, and `-` for a file that comes from standard input.
        save: Where the stems go.
        options: What is written of each song.
        jobs: Songs at once, each in a process of its own; the stems do not depend on it.
        overwrite: Whether to separate again what is done, and to replace files that no run recorded.
        callback: Is told what goes on.

    Raises:
        AuralflowError: Nothing can be separated: there is no model or no file, the disk is too small, or another run
            writes to the folder.
    """
    if jobs < 1:
        raise ConfigError(f"jobs: {jobs} is below 1; 1 is the least")
    recipe = recipe if isinstance(recipe, Recipe) else Recipe((str(recipe),))
    callback = callback or SeparationCallback()
    inputs = list(inputs)
    songs = found(inputs, Path(save))
    separators = recipe.load()
    with on_disk(STDIN) if STDIN in songs else nullcontext() as stdin, locked(Path(save)):
        plan = planned(recipe, separators, songs, inputs, save, options, overwrite=overwrite, stdin=stdin)
        plan.check_room(jobs)
        callback.on_start(plan)
        return _run(plan, recipe, separators, min(jobs, len(plan.todo)), callback)


def found(inputs: Inputs, save: Path) -> list[Path]:
    """Return the songs among and below some paths, without the stems that runs made of them.

    Raises:
        AudioError: There is none.
    """
    inputs = list(inputs)
    songs = list(find_audio(inputs, leave_out=lambda folder: folder.resolve() == save.resolve() or has_report(folder)))
    if not songs:
        raise AudioError(f"{', '.join(map(str, inputs))}: no audio files found; check the path")
    return songs


def planned(
    recipe: Recipe,
    separators: Sequence[Separator],
    songs: Sequence[Path],
    roots: Inputs,
    save: str | Path,
    options: Options | None = None,
    *,
    overwrite: bool = False,
    stdin: Path | None = None,
) -> Plan:
    """Return what `separate_files` would do; nothing is written.

    Args:
        recipe: The model or models.
        separators: What the recipe loads.
        songs: The songs.
        roots: The paths they were found by.
        save: Where the stems go.
        options: What is written of each song.
        overwrite: Whether to separate again what is done, and to replace files that no run recorded.
        stdin: The file that holds what came from standard input.

    Raises:
        AuralflowError: The options do not fit the model, or stems would replace files of someone else.
    """
    options = options or Options()
    targets = recipe.joined(separators).targets
    settings = _settings(recipe, separators, options)
    return make_plan(songs, map(Path, roots), Path(save), targets, options, settings, overwrite=overwrite, stdin=stdin)


def measured_speed(recipe: Recipe, separators: Sequence[Separator], channels: int = 2) -> float:
    """Return how many seconds of audio are separated in a second, by separating some noise."""
    separator = recipe.joined(separators)
    seconds = 2 * max(member.settings.segment for member in separators)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (channels, round(seconds * separator.sample_rate)))
    began = time.monotonic()
    for _ in separator.stream([noise.astype(np.float32)], channels, separator.sample_rate):
        pass
    return seconds / (time.monotonic() - began)


def fingerprint(model: SeparationModel) -> str:
    """Return hexadecimal digits that change with a model's architecture, its data settings and its weights."""
    config = model.config
    facts = [config.model.type, config.model.params, config.dataset.model_dump(mode="json")]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _settings(recipe: Recipe, separators: Sequence[Separator], options: Options) -> dict[str, Any]:
    """Return all that the stems depend on besides the songs, as JSON gives it back."""
    settings: dict[str, Any] = {
        "models": {
            str(number): {"weights": fingerprint(member.model), "separation": member.settings.model_dump()}
            for number, member in enumerate(separators, 1)
        },
        "stems": asdict(options),
    }
    if len(separators) > 1:
        sum_to_mixture = bool(recipe.changes.get("sum_to_mixture"))
        settings["ensemble"] = {"weights": recipe.weights, "mode": recipe.mode, "sum_to_mixture": sum_to_mixture}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _run(
    plan: Plan, recipe: Recipe, separators: Sequence[Separator], at_once: int, callback: SeparationCallback
) -> Summary:
    """Do what a plan says is to be done, and keep the report."""
    report, separated, stopped = plan.report, 0, None
    report.recipes[plan.key] = {"models": list(recipe.models), "settings": dict(plan.settings)}
    report.remove_scratch(plan.outputs)
    report.begin(job.waiting() for job in plan.todo)
    report.write()
    try:
        with closing(_outcomes(plan, recipe, separators, at_once, callback)) as outcomes:
            for job, outcome in outcomes:
                report.songs[outcome.record.path] = outcome.record
                report.write()
                separated += outcome.record.state == DONE
                callback.on_song(job, outcome.record)
                if outcome.disk_is_full:
                    stopped = "the disk is full; free some space and run the same command again to go on"
                    break
    finally:
        # Processes that had to be killed leave some.
        report.remove_scratch(plan.outputs)
    songs = tuple(report.songs[song_key(job.source)] for job in plan.songs)
    return Summary(plan.save, songs, separated, stopped)


def _outcomes(
    plan: Plan, recipe: Recipe, separators: Sequence[Separator], at_once: int, callback: SeparationCallback
) -> Generator[tuple[Job, Outcome]]:
    if at_once > 1:
        return run_in_processes(recipe.shared_among(at_once).build, plan.todo, at_once, callback.on_progress)
    return run_here(recipe.joined(separators), plan.todo, callback.on_progress)
