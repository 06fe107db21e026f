"""Progress of a run on stderr: a line with the time left, failures as they happen, a summary at the end.

The line is live on a terminal. Elsewhere it is printed every few seconds.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ..executors.stats import RunStats
from ..text import counted, format_duration, printable
from ..types import Failed, Outcome, Skipped

_PLAIN_INTERVAL_S = 10.0
_MAX_FAILURES_SHOWN = 20


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["pace"]), style="cyan")


class ProgressReporter:
    """Counts outcomes and prints progress."""

    def __init__(self, console: Console, *, show: bool) -> None:
        self.console = console
        self.stats = RunStats()
        self.started = time.monotonic()
        self.total: int | None = None
        self._show = show
        self._first_done: float | None = None
        self._last_plain = self.started
        self._busy: Mapping[str, float] = {}
        self._live: Progress | None = None
        if console.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                _RateColumn(),
                console=console,
                transient=True,
            )
            self._task = self._live.add_task("looking", total=None, pace="")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def log(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def update(self, outcome: Outcome, total: int | None, utilization: Mapping[str, float] | None = None) -> None:
        """busy: for each actor of a cluster, the share of time that it worked."""
        self.stats.add(outcome)
        self._busy = utilization or {}
        # A thread counts the files during the run, so the count can lag behind what is done.
        self.total = total and max(total, self.stats.done)
        if isinstance(outcome, Skipped):
            return
        self._first_done = self._first_done or time.monotonic()
        if isinstance(outcome, Failed):
            self.log(f"failed: {printable(outcome.item.path)}: {outcome.error}", "red")
        elif self._show:
            flags = f"  [{', '.join(outcome.flags)}]" if outcome.flags else ""
            self.log(f"{printable(outcome.item.path)}: {outcome.caption}{flags}")
        self._refresh()

    def _refresh(self) -> None:
        of = "?" if self.total is None else str(self.total)
        counts = f"{self.stats.done}/{of}"
        if self.stats.flagged:
            counts += f", {self.stats.flagged} flagged"
        if self.stats.failed:
            counts += f", {self.stats.failed} failed"
        if self._busy:
            counts += f", {format_utilization(self._busy)}"
        if self._live:
            self._live.update(
                self._task, completed=self.stats.done, total=self.total, description=counts, pace=self._format_rate()
            )
        elif time.monotonic() - self._last_plain >= _PLAIN_INTERVAL_S:
            self._last_plain = time.monotonic()
            self.log(f"{counts}  {self._format_rate()}")

    def _format_rate(self) -> str:
        """Rate and time left, measured since the first file was done, so that loading the model does not count."""
        since = self.seconds - ((self._first_done or time.monotonic()) - self.started)
        if self.stats.done < 2 or since <= 0:
            return ""
        rate = (self.stats.done - 1) / since
        pace = f"{rate:.1f} files/s" if rate >= 1 else f"{rate * 60:.1f} files/min"
        if self.total is None:
            return pace
        return f"{pace}, {format_duration(max(0, self.total - self.stats.done) / rate)} left"

    def summary(
        self, *, load_seconds: float, ignored: int, journals: list[Path], utilization: Mapping[str, float] | None = None
    ) -> None:
        stats = self.stats
        parts = [f"{stats.captioned} captioned", f"{stats.skipped} skipped", f"{stats.failed} failed"]
        if stats.flagged:
            parts.append(f"{stats.flagged} flagged")
        if ignored:
            parts.append(f"{counted(ignored, 'other file')} ignored")
        timing = f" in {format_duration(self.seconds)}"
        if load_seconds:
            timing += f" (loading the model took {format_duration(load_seconds)})"
        self.log(", ".join(parts) + timing, "bold")
        if stats.failed:
            self.log("These files failed. Fix them and run the same command again:", "red")
            for failure in stats.failures[:_MAX_FAILURES_SHOWN]:
                self.log(f"  {printable(failure['path'])}: {failure['error']}")
            if stats.failed > _MAX_FAILURES_SHOWN:
                self.log(f"  and {stats.failed - _MAX_FAILURES_SHOWN} more")
        if utilization:
            self.log(format_utilization(utilization), "dim")
        if num_repeated := stats.num_repeated:
            self.log(
                f"{num_repeated:,} files share a caption with another file: `gemma-captioner check` shows which",
                "yellow",
            )
        for journal in journals:
            self.log(f"The journal of this run: {printable(journal)}", "dim")


def format_utilization(utilization: Mapping[str, float]) -> str:
    """# 8 actors, busy 91-97% of the time"""
    least, most = (f"{of(utilization.values()):.0%}".rstrip("%") for of in (min, max))
    return (
        f"{len(utilization)} actors, busy {least}-{most}% of the time"
        if len(utilization) > 1
        else f"1 actor, busy {most}%"
    )
