"""`auralflow separate`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.separate import Options, Separator, SongReport


@click.command("separate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default=Path("separated"),
    show_default=True,
    help="Folder for the stems.",
)
@click.option("--stems", help="Write only these of the model's targets: vocals,drums.")
@click.option("--residual", is_flag=True, help="Also write what is left of the mixture without the model's targets.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    help="Separate only this many seconds from the start.",
)
@click.option("--segment", type=float, help="Seconds separated at once (default: separation.segment).")
@click.option("--overlap", type=float, help="Share of a segment that overlaps the next (default: separation.overlap).")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["wav", "flac"]),
    default="wav",
    show_default=True,
    help="Format of the stems.",
)
@click.option(
    "--bit-depth",
    type=click.Choice(["16", "24", "32f"]),
    default="16",
    show_default=True,
    help="Bits of a sample; 32f: floating point, nothing is clipped.",
)
@click.option("--step", type=int, help="Step of the checkpoint (default: the best one).")
@click.option("--device", help="cpu, cuda, cuda:N, mps or auto (default: training.device).")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else.")
def separate(
    model: Path,
    inputs: tuple[Path, ...],
    save: Path,
    stems: str | None,
    residual: bool,
    duration: float | None,
    segment: float | None,
    overlap: float | None,
    format_: str,
    bit_depth: str,
    step: int | None,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Separate audio files, and those in folders, with the model in the folder MODEL.

    Stems are written to SAVE/SONG/STEM.wav with the input's rate, channel count and length. A file that cannot be
    separated does not stop the others; the exit status is 1 then.
    """
    from auralflow_core.audio import find_audio
    from auralflow_core.build import load_model
    from auralflow_core.cli.output import print_json
    from auralflow_core.errors import AudioError
    from auralflow_core.separate import Options, Separator, plan_outputs, wanted_stems

    songs = list(find_audio(inputs))
    if not songs:
        raise AudioError(f"{', '.join(map(str, inputs))}: no audio files found; check the path")
    separator = Separator(load_model(model, step=step, device=device), segment=segment, overlap=overlap)
    names = tuple(name.strip() for name in stems.split(",")) if stems else ()
    options = Options(names, residual, duration, format_, bit_depth)
    wanted_stems(separator.model.targets, options)
    outputs = plan_outputs(songs, save, inputs)
    reports, failures = run_separation(separator, outputs, options, quiet=quiet or as_json)
    if as_json:
        print_json({"songs": [_facts(report) for report in reports], "failed": failures})
    if failures:
        for path, reason in failures.items():
            click.echo(f"{path}: not separated: {reason}", err=True)
        click.echo(f"{len(failures)} of {len(songs)} files were not separated.", err=True)
        sys.exit(1)


def run_separation(
    separator: Separator, outputs: dict[Path, Path], options: Options, *, quiet: bool
) -> tuple[list[SongReport], dict[str, str]]:
    """Separate each file into its folder; return what was done, and why for each file that failed."""
    from auralflow_core.audio import audio_info
    from auralflow_core.cli.output import progress_bar
    from auralflow_core.errors import AuralflowError
    from auralflow_core.separate import separate_song

    reports: list[SongReport] = []
    failures: dict[str, str] = {}
    with progress_bar(quiet=quiet) as bar:
        for song, folder in outputs.items():
            task = bar.add_task(song.name, total=None, facts="")
            began = time.monotonic()
            try:
                bar.update(task, total=min(audio_info(song).duration, options.duration or float("inf")))

                def advance(seconds: float, task: object = task, began: float = began) -> None:
                    speed = seconds / max(1e-9, time.monotonic() - began)
                    bar.update(task, completed=seconds, facts=f"{speed:.1f} x real time")  # type: ignore[arg-type]

                report = separate_song(separator, song, folder, options, advance)
            except AuralflowError as error:
                failures[str(song)] = str(error)
                continue
            finally:
                bar.remove_task(task)
            reports.append(report)
            if not quiet:
                click.echo(_line(report, folder, time.monotonic() - began))
    return reports, failures


def _line(report: SongReport, folder: Path, seconds: float) -> str:
    stems = ", ".join(path.name for path in report.outputs)
    text = f"{report.source} -> {folder}/ ({stems}); {report.seconds:.1f} s in {seconds:.1f} s"
    if report.clipped:
        text += f"; {report.clipped} samples were clipped, --bit-depth 32f keeps them"
    return text


def _facts(report: SongReport) -> dict[str, object]:
    return {
        "source": str(report.source),
        "outputs": [str(path) for path in report.outputs],
        "seconds": report.seconds,
        "clipped": report.clipped,
    }
