"""A run of `auralflow separate` on the terminal: live bars, a line a song."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from auralflow_core.cli.output import duration, progress_bar
from auralflow_core.library import SeparationCallback
from auralflow_core.separate import Job, Plan, SongRecord
from auralflow_core.separate.plan import in_songs

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class SeparationProgress(SeparationCallback):
    """Tells what is about to be separated, how it goes, and how each song ended.

    On a terminal a bar shows the whole run with its speed and the time left, and one each song at work; elsewhere
    there is a line a song on standard error.

    Attributes:
        ended: The songs that ended in this run.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.ended: list[SongRecord] = []
        self._quiet = quiet
        self._stack = ExitStack()
        self._plan: Plan | None = None
        self._began = time.monotonic()
        self._whole: TaskID | None = None
        self._tasks: dict[Path, TaskID] = {}
        self._seconds: dict[Path, float] = {}
        self._done = 0.0

    def __enter__(self) -> SeparationProgress:
        self._bar: Progress = self._stack.enter_context(progress_bar(quiet=self._quiet))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars away."""
        self._stack.close()

    @property
    def account(self) -> str:
        """How far the run came, in words."""
        if self._plan is None:
            return "nothing was begun"
        done = sum(song.error is None for song in self.ended)
        earlier = len(self._plan.songs) - len(self._plan.todo)
        before = f", {earlier} {'was' if earlier == 1 else 'were'} done before" if earlier else ""
        return f"{done} of {in_songs(len(self._plan.todo))} separated{before}"

    def on_start(self, plan: Plan) -> None:
        """Say what differs from earlier runs, and which songs cannot be separated."""
        self._plan, self._began = plan, time.monotonic()
        for line in remarks(plan):
            self._say(line)
        self._whole = self._bar.add_task(in_songs(len(plan.todo)), total=plan.seconds, facts="")

    def on_progress(self, job: Job, seconds: float) -> None:
        """Move the bars."""
        if job.source not in self._tasks:
            self._tasks[job.source] = self._bar.add_task(job.source.name, total=job.duration, facts="")
        self._bar.update(self._tasks[job.source], completed=seconds)
        self._move(job, seconds)

    def on_song(self, job: Job, record: SongRecord) -> None:
        """Print the song's line."""
        assert self._plan is not None
        if job.source in self._tasks:
            self._bar.remove_task(self._tasks.pop(job.source))
        self.ended.append(record)
        self._move(job, job.duration)
        facts = "failed"
        if record.duration is not None and record.seconds is not None:
            facts = f"{duration(record.duration)} in {record.seconds:.1f} s, {record.speed:.1f} x real time"
        if len(self._plan.todo) > 1:
            self._say(f"[{len(self.ended)}/{len(self._plan.todo)}] {job.source}: {facts}")

    def _move(self, job: Job, seconds: float) -> None:
        assert self._plan is not None and self._whole is not None
        self._done += seconds - self._seconds.get(job.source, 0.0)
        self._seconds[job.source] = seconds
        speed = self._done / max(1e-9, time.monotonic() - self._began)
        facts = f"{len(self.ended)} of {len(self._plan.todo)}  {speed:.1f} x real time"
        self._bar.update(self._whole, completed=self._done, facts=facts)

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        if self._bar.console.is_terminal:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)


def remarks(plan: Plan) -> Iterator[str]:
    """Yield a line for each way in which settings differ from those of earlier runs, and for each song at fault."""
    for change, songs in plan.changes().items():
        yield f"separated with other settings before, done anew: {in_songs(len(songs))} in {plan.save}; {change}"
    for job in plan.todo:
        if job.fault:
            yield f"will fail: {about(job.source, job.fault)}"


def about(song: Path, error: str) -> str:
    """Return an error that names its song."""
    return error if song.name in error else f"{song}: {error}"
