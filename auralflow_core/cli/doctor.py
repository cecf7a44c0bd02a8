"""`auralflow doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.doctor import Finding, Report

_MOST_ROWS = 12


@click.command("doctor")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--only", metavar="CHECK,...", help="Make these checks alone.")
@click.option("--skip", metavar="CHECK,...", help="Leave these checks out.")
@click.option("--quick", is_flag=True, help="Look at parts of songs and at the stems of 40 at most; train for seconds.")
@click.option("--jobs", type=click.IntRange(min=1), help="Songs read at the same time (one for each core, at most 8).")
@click.option("--all", "show_all", is_flag=True, help=f"Show more than {_MOST_ROWS} findings of a check.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else.")
def doctor(
    data: Path,
    model: Path | None,
    only: str | None,
    skip: str | None,
    quick: bool,
    jobs: int | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """Find what is wrong with the songs in DATA before they are trained with.

    With the folder MODEL also whether they fit that model, and what its training will need. Nothing is changed. Exit
    status 1 means that there are errors. Checks: files, format, stems, opening, sums, silence, clipping, offset, mono,
    duplicates; targets, rate, disk, memory, overfit, loader (with MODEL); torch, plugins.
    """
    from dataclasses import asdict

    from auralflow_core.cli.output import print_json, progress_bar
    from auralflow_core.doctor import examine

    with progress_bar(quiet=as_json) as progress:
        bar = progress.add_task("Reading songs", total=None, facts="")
        report = examine(
            data,
            model,
            only=_names(only),
            skip=_names(skip),
            quick=quick,
            jobs=jobs,
            advance=lambda done, total: progress.update(bar, completed=done, total=total, facts=f"{done} of {total}"),
        )
    if as_json:
        facts = {"songs": report.songs, "songs_without_stems_read": report.without_stems}
        print_json({"data": str(data), **facts, "findings": [asdict(it) for it in report.findings]})
    else:
        _show(report, None if show_all else _MOST_ROWS)
    if report.count("error"):
        sys.exit(1)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _show(report: Report, most: int | None) -> None:
    from auralflow_core.cli.output import print_table

    shown: list[Finding] = []
    hidden: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        key = (finding.severity, finding.check)
        if most is not None and sum((it.severity, it.check) == key for it in shown) >= most:
            hidden[key] = hidden.get(key, 0) + 1
        else:
            shown.append(finding)
    if shown:
        rows = [(it.where, it.severity, it.check, _sentence(it)) for it in shown]
        print_table("", ("where", "severity", "check", "what, and what to do"), rows)
    for (severity, check), count in hidden.items():
        click.echo(f"… and {count} more of {severity} {check}; --all shows them")
    counts = ", ".join(
        f"{count} {word}{'s' * (count != 1)}"
        for word, count in (("error", report.count("error")), ("warning", report.count("warning")))
    )
    click.echo(f"{report.songs} song{'s' * (report.songs != 1)}: {counts}")
    if report.without_stems:
        click.echo(f"Of {report.without_stems} songs --quick read headers and mixture alone, no stems.")


def _sentence(finding: Finding) -> str:
    measured = f": {finding.value}" if finding.value else ""
    expected = f" (expected {finding.limit})" if finding.limit else ""
    likely = "" if finding.severity == "info" else "likely "
    cause = f"; {likely}{finding.cause}" if finding.cause else ""
    next_step = f"; to do: {finding.next_step}" if finding.next_step else ""
    return finding.what + measured + expected + cause + next_step
