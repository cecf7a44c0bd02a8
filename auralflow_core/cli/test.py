"""`auralflow test`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from auralflow_core.data.splits import Split
    from auralflow_core.evaluate import Backend
    from auralflow_core.evaluate.run import Outcome, Progress, Task
    from auralflow_core.evaluate.store import ScoreStore
    from auralflow_core.model import SeparationModel


@dataclass(frozen=True)
class Options:
    """How a model is tested."""

    step: int | None = None
    device: str | None = None
    backend: Backend = "auralflow"
    split: Split = "test"
    songs: tuple[str, ...] = ()
    jobs: int | None = None
    oracles: bool = False
    fresh: bool = False


@dataclass(frozen=True)
class TrainedModel:
    """Says which model each process loads for itself."""

    folder: Path
    step: int
    device: str | None

    def __call__(self) -> SeparationModel:
        """Load it."""
        from auralflow_core.build import load_model

        return load_model(self.folder, step=self.step, device=self.device)


@click.command("test")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--step", type=int, help="Step of the checkpoint (default: the best one).")
@click.option("--device", help="cpu, cuda, cuda:N, mps or auto (default: training.device).")
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    default="test",
    show_default=True,
    help="Songs to test on; the files of another split than test are named after it.",
)
@click.option(
    "--song", "songs", multiple=True, metavar="NAME", help="Test this song alone; may be given several times."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Songs scored at once, each by a process of its own (default: one a core, at most 4).",
)
@click.option(
    "--with-oracles",
    is_flag=True,
    help="Also score the ideal ratio mask, the ideal binary mask and the multichannel Wiener filter.",
)
@click.option("--fresh", is_flag=True, help="Score every song anew, not only those without a score.")
@click.option(
    "--backend",
    type=click.Choice(["auralflow", "museval"]),
    default="auralflow",
    help="Who computes BSSEval: auralflow (fast) or the museval package.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json, and nothing else.")
def test(
    model: Path,
    data: Path,
    step: int | None,
    device: str | None,
    split: Split,
    songs: tuple[str, ...],
    jobs: int | None,
    with_oracles: bool,
    fresh: bool,
    backend: Backend,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score the model in the folder MODEL on the test songs in DATA.

    Writes BSSEval v4's SDR, ISR, SIR and SAR (medians over frames of one second) and further metrics of each song and
    target to MODEL/evaluation.csv, what they are over songs to MODEL/evaluation.json, and each song's frames, in
    museval's layout, to MODEL/evaluation/. A run that was stopped goes on where it was.
    """
    from auralflow_core.cli.output import print_json

    document = run_test(
        model,
        data,
        step=step,
        device=device,
        backend=backend,
        split=split,
        songs=songs,
        jobs=jobs,
        oracles=with_oracles,
        fresh=fresh,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json(document)
    if document["failed"]:
        for song, reason in document["failed"].items():
            click.echo(f"{song}: not scored: {reason}", err=True)
        click.echo(
            f"{len(document['failed'])} of {len(document['failed']) + len(document['songs'])} songs were not scored.",
            err=True,
        )
        sys.exit(1)


def run_test(folder: Path, data: Path, *, quiet: bool = False, **how: Any) -> dict[str, Any]:
    """Score a model, write its evaluation, print the tables; return what stands in `evaluation.json`.

    Args:
        folder: The model folder.
        data: The data set's folder.
        quiet: Whether to print warnings alone.
        **how: What differs from the defaults of `Options`.
    """
    from auralflow_core.build import find_weights, load_model, open_dataset
    from auralflow_core.checkpoint import CheckpointStore
    from auralflow_core.errors import ConfigError
    from auralflow_core.evaluate.oracles import ORACLES
    from auralflow_core.evaluate.report import describe, evaluation_document, write_document
    from auralflow_core.evaluate.run import choose, plan
    from auralflow_core.evaluate.seen import seen_songs, warnings_of
    from auralflow_core.evaluate.song import MIXTURE, MODEL
    from auralflow_core.evaluate.store import ScoreStore
    from auralflow_core.evaluate.table import write_csv
    from auralflow_core.layout import ModelFolder

    options = Options(**how)
    if find_weights(folder):
        raise ConfigError(
            f"{folder}: are public weights, and scores are kept in a model folder; make one with `auralflow download "
            f"{folder} --to FOLDER`"
        )
    model = load_model(folder, step=options.step, device=options.device)
    checkpoints = CheckpointStore(folder / "checkpoint")
    step = checkpoints.best() if options.step is None else options.step
    all_songs = open_dataset(data, model.config).songs(options.split)
    songs = choose(all_songs, options.songs)
    estimates = (MODEL, MIXTURE, *(ORACLES if options.oracles else ()))
    description = describe(model, step, checkpoints.path(step) / "model.safetensors", options.backend)
    names = [song.name for song in all_songs]
    store = ScoreStore(folder / "evaluation", options.split, names, description.runs(estimates))
    outcome, tasks = plan(songs, model.targets, estimates, options.backend, store, fresh=options.fresh)
    training = checkpoints.meta(step).get("data", {})
    seen = seen_songs(training, [song for song in songs if song.name in outcome.audio])
    warnings = warnings_of(training, seen, len(outcome.scores))
    _say_before(outcome, warnings, quiet=quiet)
    store.drop_outdated()
    _score(model, TrainedModel(folder, step, options.device), outcome, tasks, store, options.jobs, quiet=quiet)
    document = evaluation_document(outcome, description, {"path": str(data), "split": options.split}, seen, warnings)
    files = [ModelFolder(folder).evaluation.with_name(f"evaluation{suffix}") for suffix in _suffixes(options.split)]
    write_csv(files[0], outcome.rows())
    write_document(files[1], document)
    if not quiet:
        print_evaluation(document)
        click.echo(f"Written to {files[0]}, {files[1].name} and {store.folder.name}/")
    return document


def _suffixes(split: str) -> tuple[str, str]:
    """Return how the names of table and summary end: one file of each for every split."""
    middle = "" if split == "test" else f"-{split}"
    return f"{middle}.csv", f"{middle}.json"


def _say_before(outcome: Outcome, warnings: Sequence[str], *, quiet: bool) -> None:
    """Say what needs no scoring, and warn of songs that the model knows."""
    count = len(outcome.scores)
    for line in warnings:
        click.echo(f"Warning: {line}", err=True)
    if outcome.reused and not quiet:
        click.echo(
            f"{len(outcome.reused)} of {count} songs were scored before, with these weights and settings; "
            "--fresh scores them anew"
        )


def _score(
    model: SeparationModel,
    load: TrainedModel,
    outcome: Outcome,
    tasks: list[Task],
    store: ScoreStore,
    jobs: int | None,
    *,
    quiet: bool,
) -> None:
    """Score what is left to do, with a bar on a terminal and a line a song elsewhere; Ctrl-C keeps what is done."""
    from auralflow_core.evaluate.run import default_jobs, run
    from auralflow_core.separate import Separator

    try:
        with _progress(tasks, quiet=quiet) as progress:
            run(
                outcome,
                tasks,
                store,
                Separator(model),
                load,
                jobs=min(jobs, len(tasks)) if jobs else default_jobs([task.song for task in tasks]),
                progress=progress,
            )
    except KeyboardInterrupt:
        click.echo("Stopped. What was scored is kept: the same command goes on from there.", err=True)
        sys.exit(130)


@contextmanager
def _progress(tasks: Sequence[Task], *, quiet: bool) -> Iterator[Progress]:
    """Yield what is called after each song: seconds of audio measure how much is done and how long the rest takes."""
    from auralflow_core.cli.output import duration, progress_bar

    total, began, done = sum(task.song.duration for task in tasks), time.monotonic(), 0.0
    count = 0
    with progress_bar(quiet=quiet) as bar:
        line = bar.add_task("testing", total=total, facts=f"0/{len(tasks)} songs") if tasks else None

        def advance(task: Task, failure: str) -> None:
            nonlocal done, count
            done, count = done + task.song.duration, count + 1
            left = (time.monotonic() - began) * (total - done) / done
            assert line is not None
            bar.update(line, completed=done, facts=f"{count}/{len(tasks)} songs")
            if not quiet and not bar.console.is_terminal:
                state = "failed" if failure else "scored"
                click.echo(f"{count}/{len(tasks)} {task.song.name}: {state}; about {duration(left)} left")

        yield advance


def print_evaluation(document: Mapping[str, Any]) -> None:
    """Print the scores of each song, those over songs, and floor and ceilings, in tables for 80 columns."""
    from auralflow_core.cli.output import print_table

    targets = list(document["summary"])
    sdr = {(row["song"], row["target"]): row["SDR"] for row in document["scores"]}
    rows = [(song, *(sdr[song, target] for target in targets)) for song in document["songs"]]
    print_table("SDR in dB", ("song", *targets), rows)
    over_songs = ("target", "metric", "median", "95 % interval", "mean", "songs")
    print_table("Over songs", over_songs, _over_songs(document))
    found = set(document["scores"][0])
    bounds = ("mixture", "gain", *(name for name in ("irm", "ibm", "mwf") if f"{name}_SDR" in found))
    print_table(
        "Medians beside floor and ceilings" if len(bounds) > 2 else "Medians beside the floor",
        ("target", "metric", "model", *bounds),
        _beside(document, bounds),
    )
    click.echo("PES: dBFS, lower is better; the others: dB, higher is better.")
    click.echo("gain: the score minus the mixture's, song by song, then the median.")
    _say_unscored(document)
    model, data = document["model"], document["data"]
    click.echo(
        f"{model['type']} {model['name']} at step {model['step']}, weights {model['sha256'][:12]}; "
        f"songs {data['sha256'][:12]} ({data['split']}: {data['songs']})"
    )


def _over_songs(document: Mapping[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for target, metric, columns in _metrics(document):
        own = columns[metric]
        interval = "{:.2f} … {:.2f}".format(*own["interval"]) if own["songs"] > 1 else "-"
        rows.append((target, metric, own["median"], interval, own["mean"], own["songs"]))
    return rows


def _beside(document: Mapping[str, Any], bounds: Sequence[str]) -> list[tuple[object, ...]]:
    """Return a row for each metric that a bound has a number of: the mixture has no SIR, for one."""
    rows: list[tuple[object, ...]] = []
    for target, metric, columns in _metrics(document):
        others = [columns.get(f"{bound}_{metric}", {}).get("median", math.nan) for bound in bounds]
        if any(map(math.isfinite, others)):
            rows.append((target, metric, columns[metric]["median"], *others))
    return rows


def _metrics(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each target's metrics, with what all of the target's columns are over songs."""
    for target, columns in document["summary"].items():
        for name in columns:
            if "_" not in name:
                yield target, name, columns


def _say_unscored(document: Mapping[str, Any]) -> None:
    if document["unscored"]:
        click.echo(f"Without BSSEval's scores are {len(document['unscored'])} of {len(document['songs'])} songs:")
        for song, reason in document["unscored"].items():
            click.echo(f"  {song}: {reason}")
