"""`auralflow test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.data.song import Song
    from auralflow_core.evaluate import Backend, Score


@click.command("test")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--step", type=int, help="Step of the checkpoint (default: the best one).")
@click.option("--device", help="cpu, cuda, cuda:N, mps or auto (default: training.device).")
@click.option(
    "--backend",
    type=click.Choice(["auralflow", "museval"]),
    default="auralflow",
    help="Who computes BSSEval: auralflow (fast) or the museval package.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON, and nothing else.")
def test(
    model: Path,
    data: Path,
    step: int | None,
    device: str | None,
    backend: Backend,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score the model in the folder MODEL on the test songs in DATA.

    Writes SDR, ISR, SIR and SAR of each song and target (BSSEval v4, medians over frames of one second) and their
    medians over songs to MODEL/evaluation.csv.
    """
    from auralflow_core.cli.output import print_json
    from auralflow_core.evaluate import medians

    scores = run_test(model, data, step=step, device=device, backend=backend, quiet=quiet or as_json)
    if as_json:
        print_json({"scores": [vars(score) for score in [*scores, *medians(scores)]]})


def run_test(
    folder: Path, data: Path, *, step: int | None, device: str | None, backend: Backend, quiet: bool
) -> list[Score]:
    """Score a model, write its `evaluation.csv`, print the table; return the scores."""
    from auralflow_core.build import load_model, open_dataset
    from auralflow_core.cli.output import console, print_table, progress_bar
    from auralflow_core.evaluate import METRICS, evaluate, medians, write_csv
    from auralflow_core.layout import ModelFolder
    from auralflow_core.separate import Separator

    model = load_model(folder, step=step, device=device)
    songs = open_dataset(data, model.config).songs("test")
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("testing", total=len(songs), facts="")

        def advance(song: Song, scores: list[Score]) -> None:
            bar.update(task, advance=1, facts=song.name)

        scores = evaluate(Separator(model), songs, backend=backend, progress=advance)
    path = ModelFolder(folder).evaluation
    write_csv(path, scores)
    print_table(
        "Scores in dB; mixture: the mixture itself as estimate",
        ("song", "target", *METRICS, "mixture", "gain"),
        [
            (score.song, score.target, *score.values, score.sdr - score.mixture_sdr)
            for score in [*scores, *medians(scores)]
        ],
        quiet=quiet,
    )
    console(quiet=quiet).print(f"Written to {path}", markup=False)
    return scores
