"""Progress of a run on stderr: how far it is, how fast, and what it waits for; failures as they happen.

On a terminal, two lines that are redrawn below everything else. Elsewhere, one line every half minute.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..executors.stats import RunStats
from ..text import escape_controls, format_duration, printable
from ..types import Activity, Failed, Outcome, Skipped
from .captured_stderr import CapturedStderr

_PLAIN_INTERVAL_S, _LIVE_INTERVAL_S = 30.0, 0.2
_RATE_WINDOW_S = 60.0
_BAR_WIDTH = 20


class Watched(Protocol):
    """The part of a run that the display reads, in its own thread."""

    @property
    def activity(self) -> Activity: ...
    @property
    def loaded_at(self) -> float | None: ...
    @property
    def total(self) -> int | None: ...


class Rate:
    """Files per second over the last minute, or over the last two outcomes if they are further apart."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()  # (seconds, files done then)

    def add(self, now: float, done: int, loaded_at: float | None = None) -> None:
        """loaded_at: when the model was loaded. The time before it and the files that failed before it do not count."""
        if loaded_at is not None and not (self._samples and self._samples[0][0] >= loaded_at):
            self._samples = deque([(loaded_at, done - 1)])
        self._samples.append((now, done))

    def per_second(self, now: float) -> float | None:
        while len(self._samples) > 2 and self._samples[1][0] < now - _RATE_WINDOW_S:
            self._samples.popleft()
        if len(self._samples) < 2 or now <= self._samples[0][0]:
            return None
        return (self._samples[-1][1] - self._samples[0][1]) / (now - self._samples[0][0])


class ProgressReporter:
    """Counts outcomes and prints progress. A context manager."""

    def __init__(self, console: Console, *, show: bool, capture: bool = True) -> None:
        """capture: whether to keep what libraries write to stderr away from the display on a terminal."""
        self.console = self._outer_console = console
        self.stats = RunStats()
        self.started = time.monotonic()
        self.total: int | None = None
        self._show, self._capture = show, capture
        self._run: Watched | None = None
        self._busy: Mapping[str, float] = {}
        self._rate = Rate()
        self._stopped = threading.Event()
        self._captured: CapturedStderr | None = None
        self._live: Live | None = None
        self._spinner = Spinner("dots")
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            if self._capture and sys.platform != "win32" and self.console.file.isatty():
                self._captured = self._resources.enter_context(CapturedStderr())
                self.console = Console(file=self._captured.terminal, highlight=False, emoji=False)
            self._live = Live(
                console=self.console,
                get_renderable=self._render,
                auto_refresh=False,
                transient=True,
                redirect_stderr=False,  # its proxy would mix the progress bars of libraries into one line
            )
            self._resources.enter_context(self._live)
        ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._resources.callback(ticker.join)
        self._resources.callback(self._stopped.set)
        ticker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._resources.close()
        self.console = self._outer_console

    def watch(self, run: Watched) -> None:
        self._run = run

    def _tick(self) -> None:
        while not self._stopped.wait(_LIVE_INTERVAL_S if self._live else _PLAIN_INTERVAL_S):
            if self._live is None:
                self.log(", ".join(filter(None, [self._count(), self._pace(), self._state()])))
                continue
            for line in self._captured.lines() if self._captured else ():
                self.log(line, "dim")
            self._live.refresh()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def log(self, text: str, style: str = "") -> None:
        self.console.print(Text(escape_controls(text), style=style), soft_wrap=True)

    def update(self, outcome: Outcome, total: int | None, utilization: Mapping[str, float] | None = None) -> None:
        """utilization: for each actor of a cluster, the share of time that it worked."""
        self.stats.add(outcome)
        self._busy = utilization or {}
        # A thread counts the files during the run, so the count can lag behind what is done.
        self.total = total and max(total, self.stats.done)
        if isinstance(outcome, Skipped):
            return
        self._rate.add(time.monotonic(), self.stats.done, self._run.loaded_at if self._run else None)
        if isinstance(outcome, Failed):
            self.log(f"failed: {printable(outcome.item.path)}: {outcome.error}", "red")
        elif self._show:
            flags = f"  [{', '.join(outcome.flags)}]" if outcome.flags else ""
            self.log(f"{printable(outcome.item.path)}: {outcome.caption}{flags}")

    # What the display shows

    def _count(self) -> str:
        """# 1,181/3,000 files"""
        if self._run and self._run.total:
            self.total = max(self._run.total, self.stats.done)
        return f"{self.stats.done:,}/{'?' if self.total is None else f'{self.total:,}'} files"

    def _pace(self) -> str:
        """# 41.3 files/min, 44m02s left"""
        if not (rate := self._rate.per_second(time.monotonic())):
            return ""
        pace = f"{rate:.1f} files/s" if rate >= 1 else f"{rate * 60:.1f} files/min"
        if self.total is None:
            return pace
        return f"{pace}, {format_duration(max(0, self.total - self.stats.done) / rate)} left"

    def _counts(self) -> str:
        """# 4 flagged, 2 failed"""
        stats = self.stats
        counts = [f"{n:,} {what}" for n, what in ((stats.flagged, "flagged"), (stats.failed, "failed")) if n]
        return ", ".join([*counts, *([format_utilization(self._busy)] if self._busy else [])])

    def _state(self) -> str:
        """# 4 flagged, 2 failed, waiting for the model"""
        activity = self._run.activity if self._run else Activity()
        waiting = f"waiting for {activity.waiting_for}" if activity.waiting_for else ""
        return ", ".join(filter(None, [self._counts(), waiting])) or "starting"

    def _render(self) -> RenderableType:
        first = Table.grid(padding=(0, 1, 0, 0))
        progress = ", ".join(filter(None, [self._count(), self._pace()]))
        bar = ProgressBar(self.total, self.stats.done, width=_BAR_WIDTH, pulse=not self.total)
        first.add_row(self._spinner, bar, Text(progress, no_wrap=True, overflow="ellipsis"))
        activity = self._run.activity if self._run else Activity()
        files = ": " + ", ".join(map(printable, activity.files)) if activity.files else ""
        bar_of_library = f": {self._captured.bar}" if self._captured and self._captured.bar and not files else ""
        return Group(
            first, Text(self._state() + files + bar_of_library, style="dim", no_wrap=True, overflow="ellipsis")
        )


def format_utilization(utilization: Mapping[str, float]) -> str:
    """# 8 actors, busy 91-97% of the time"""
    least, most = (f"{of(utilization.values()):.0%}".rstrip("%") for of in (min, max))
    return (
        f"{len(utilization)} actors, busy {least}-{most}% of the time"
        if len(utilization) > 1
        else f"1 actor, busy {most}%"
    )
