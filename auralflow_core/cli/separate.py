"""`auralflow separate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auralflow_core.cli import separation_options as options
from auralflow_core.config import SeparationConfig
from auralflow_core.errors import ConfigError

if TYPE_CHECKING:
    from auralflow_core.library import Recipe, Summary
    from auralflow_core.separate import Job, Options, Plan, SongRecord


@click.command("separate")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options.apply(options.WHERE, options.WHAT, options.HOW, options.settings(), options.FORMAT, options.MACHINE)
def separate(model: str, inputs: tuple[str, ...], **words: Any) -> None:
    """Separate audio files, and those in folders, with the model MODEL: its folder, or the name of public weights.

    Stems are written to SAVE/SONG/STEM.wav with the input's rate, channel count and length. A file that cannot be
    separated does not stop the others; the exit status is 1 then. What became of each song is in SAVE/report.json,
    and the same command run again does only what is missing.
    """
    from auralflow_core.cli.output import print_json
    from auralflow_core.cli.weights import fetch_weights

    recipe, song_options = _recipe(model, words), _options(words)
    quiet = words["quiet"] or words["as_json"]
    fetch_weights(*recipe.models, quiet=quiet)
    if words["dry_run"]:
        facts = show_plan(
            recipe, inputs, words["save"], song_options, jobs=words["jobs"], overwrite=words["overwrite"], quiet=quiet
        )
        if words["as_json"]:
            print_json(facts)
        return
    summary = run_separation(
        recipe, inputs, words["save"], song_options, jobs=words["jobs"], overwrite=words["overwrite"], quiet=quiet
    )
    if words["as_json"]:
        songs = [song.facts() for song in summary.songs]
        print_json({"save": str(summary.save), "separated": summary.separated, "songs": songs})
    sys.exit(_status(summary))


def run_separation(
    recipe: Recipe,
    inputs: Iterable[str | Path],
    save: Path,
    song_options: Options,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> Summary:
    """Separate files and tell what goes on; Ctrl-C ends the process with status 130."""
    from auralflow_core.cli.output import print_table
    from auralflow_core.cli.separation_progress import SeparationProgress
    from auralflow_core.library import separate_files

    with SeparationProgress(quiet=quiet) as progress:
        try:
            summary = separate_files(
                recipe, inputs, save, song_options, jobs=jobs, overwrite=overwrite, callback=progress
            )
        except KeyboardInterrupt:
            progress.close()
            click.echo(f"Stopped: {progress.account}. Run the same command again to go on.", err=True)
            sys.exit(130)
    columns = ("song", "length", "took", "x real time", "stems")
    print_table("", columns, [_row(song) for song in progress.ended], quiet=quiet or not progress.ended)
    if not quiet:
        click.echo(f"{progress.account}; report in {save / 'report.json'}")
    return summary


def show_plan(
    recipe: Recipe,
    inputs: Iterable[str],
    save: Path,
    song_options: Options,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Print what would be done, and return it as data."""
    from auralflow_core.cli.output import duration, print_table
    from auralflow_core.cli.separation_progress import remarks
    from auralflow_core.library import found, measured_speed, planned
    from auralflow_core.separate.plan import in_bytes, in_songs

    inputs = list(inputs)
    songs, separators = found(inputs, save), recipe.load()
    plan = planned(recipe, separators, songs, inputs, save, song_options, overwrite=overwrite)
    speed = measured_speed(recipe, separators)
    need = plan.bytes_needed(jobs)
    print_table("", ("song", "length", "state", "stems"), map(_planned_row, plan.songs, _states(plan)), quiet=quiet)
    if not quiet:
        for line in remarks(plan):
            click.echo(line)
        click.echo(
            f"{len(plan.todo)} of {in_songs(len(plan.songs))} to separate, {duration(plan.seconds)} of audio; about "
            f"{duration(plan.seconds / speed)} at {speed:.1f} x real time (measured on noise)"
        )
        click.echo(f"About {in_bytes(need)} needed, {in_bytes(plan.bytes_free)} free in {save}")
    return {
        "save": str(save),
        "songs": list(map(_planned_facts, plan.songs, _states(plan))),
        "seconds": plan.seconds,
        "speed": speed,
        "bytes_needed": need,
        "bytes_free": plan.bytes_free,
    }


def _recipe(model: str, words: Mapping[str, Any]) -> Recipe:
    from auralflow_core.library import Recipe

    others = _names(words["ensemble"])
    if not all(others):
        raise ConfigError(f"--ensemble {words['ensemble']!r}: a name is empty; write them as A,B")
    return Recipe(
        (model, *others),
        {name: words[name] for name in SeparationConfig.model_fields if words[name] is not None},
        _weights(words["ensemble_weights"]),
        words["ensemble_mode"],
        words["step"],
        words["device"],
        words["batch_size"],
        words["threads"],
    )


def _weights(text: str | None) -> tuple[float | dict[str, float], ...] | None:
    """Return each model's weight; of `2,vocals=3 drums=0.5` the second has one for each of these targets."""
    try:
        return tuple(_weight(part) for part in _names(text)) or None
    except ValueError:
        raise ConfigError(
            f"--ensemble-weights {text}: give numbers, such as 1,0.5, or some by target, as in '1,vocals=3 drums=0'"
        ) from None


def _weight(text: str) -> float | dict[str, float]:
    if "=" not in text:
        return float(text)
    pairs = (pair.partition("=") for pair in text.split())
    return {name: float(number) for name, _, number in pairs}


def _options(words: Mapping[str, Any]) -> Options:
    from auralflow_core.separate import Options, StemFormat

    return Options(
        _names(words["stems"]),
        words["karaoke"],
        words["residual"],
        words["start"],
        words["duration"],
        StemFormat(words["format_"], words["bit_depth"], words["bitrate"], words["clip"], not words["no_tags"]),
        words["name_template"],
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _status(summary: Summary) -> int:
    """Say what was not done, and return the exit status."""
    from auralflow_core.cli.separation_progress import about
    from auralflow_core.separate.plan import in_songs
    from auralflow_core.separate.report import DONE

    for song in summary.failed:
        click.echo(f"not separated: {about(Path(song.path), song.error or '')}", err=True)
    if summary.stopped:
        click.echo(f"{summary.save}: {summary.stopped}", err=True)
    if not summary.complete:
        missing = sum(song.state != DONE for song in summary.songs)
        click.echo(f"{missing} of {in_songs(len(summary.songs))} not separated", err=True)
    return 0 if summary.complete else 1


def _row(song: SongRecord) -> list[object]:
    from auralflow_core.cli.output import duration

    if song.duration is None or song.seconds is None:
        return [Path(song.path).name, "-", "-", "-", "not separated"]
    cells = [Path(song.path).name, duration(song.duration), duration(song.seconds), f"{song.speed:.1f}"]
    stems = _joined({output.stem: output.path for output in song.outputs})
    return [*cells, "; ".join([stems, *_remarks(song)])]


def _joined(stems: Mapping[str, str]) -> str:
    """Return paths of stems as `song/{vocals,drums}.wav`."""
    around = {path.rpartition(stem)[::2] for stem, path in stems.items()}
    if len(stems) == 1 or len(around) > 1:
        return ", ".join(stems.values())
    [(before, after)] = around
    return f"{before}{{{','.join(stems)}}}{after}"


def _remarks(song: SongRecord) -> list[str]:
    """Return what is worth knowing about a song besides its stems."""
    remarks = list(song.notes)
    if song.gain is not None and song.gain < 1:
        remarks.append(f"turned down by the factor {song.gain:.3f} so that nothing clips (--clip, --bit-depth 32f)")
    if song.clipped:
        remarks.append(f"{song.clipped} samples were clipped (--clip rescale and --bit-depth 32f keep them)")
    return remarks


def _states(plan: Plan) -> list[str]:
    """Return what is to become of each song of a plan."""
    todo = {job.source for job in plan.todo}
    return ["done" if job.source not in todo else "will fail" if job.fault else "to do" for job in plan.songs]


def _planned_row(job: Job, state: str) -> list[object]:
    from auralflow_core.cli.output import duration

    length = "-" if job.fault else duration(job.duration)
    return [job.source, length, state, _joined({stem: str(path) for stem, path in job.outputs.items()})]


def _planned_facts(job: Job, state: str) -> dict[str, Any]:
    facts = {"path": str(job.source), "state": state, "duration": job.duration, "error": job.fault}
    return {**facts, "outputs": [{"stem": stem, "path": str(path)} for stem, path in job.outputs.items()]}
