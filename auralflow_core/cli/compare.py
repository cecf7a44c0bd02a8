"""`auralflow compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.evaluate.compare import Difference


@click.command("compare")
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A B...")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, and nothing else.")
def compare(evaluations: tuple[Path, ...], as_json: bool) -> None:
    """Compare tested models B... with A, song by song.

    Each is a model folder, an evaluation.json, or a folder of museval's files, such as another system's results or
    MODEL/evaluation/irm. Only songs that all of them have a score of count.
    """
    from auralflow_core.cli.output import print_json
    from auralflow_core.evaluate.compare import common_songs, doubts, read_evaluation
    from auralflow_core.evaluate.compare import compare as find_differences

    read = [read_evaluation(path) for path in evaluations]
    differences = find_differences(read)
    warnings = doubts(read)
    for line in warnings:
        click.echo(f"Warning: {line}", err=True)
    songs = common_songs(read)
    if as_json:
        names = [one.name for one in read]
        rows = [asdict(row) for row in differences]
        print_json({"evaluations": names, "songs": songs, "warnings": warnings, "differences": rows})
        return
    for other in read[1:]:
        _print_differences(
            f"{other.name} (B) compared with {read[0].name} (A) on {len(songs)} songs",
            [row for row in differences if row.other == other.name and row.songs],
        )
    click.echo("A, B: medians over songs; B - A: median of the differences, song by song; p: sign test.")
    click.echo("PES: dBFS, lower is better.")


def _print_differences(title: str, differences: Sequence[Difference]) -> None:
    """Print a table for 80 columns."""
    from auralflow_core.cli.output import print_table

    print_table(
        title,
        ("target", "metric", "A", "B", "B - A", "95 % interval", "better in", "p"),
        [
            (
                row.target,
                row.metric,
                row.baseline_median,
                row.other_median,
                row.median,
                "{:.2f} … {:.2f}".format(*row.interval) if row.songs > 1 else "-",
                f"{row.better} of {row.songs}",
                f"{row.p:.3g}",
            )
            for row in differences
        ],
    )
