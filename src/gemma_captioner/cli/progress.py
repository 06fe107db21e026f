"""What a person sees of a run, on stderr: progress with an estimate, failures as they happen, a closing summary.

A live line where stderr is a terminal, a plain line now and then where it is not.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ..executors.tally import Tally
from ..text import printable, span
from ..types import Failed, Outcome, Skipped

_PLAIN_EVERY_S = 10.0
_FAILURES_IN_SUMMARY = 20


class _Pace(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["pace"]), style="cyan")


class Report:
    """Fed with outcomes; `run` is asked for the total, which is counted beside the work."""

    def __init__(self, console: Console, *, show: bool) -> None:
        self.console = console
        self.tally = Tally()
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
                _Pace(),
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

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def tell(self, outcome: Outcome, total: int | None, busy: Mapping[str, float] | None = None) -> None:
        """busy: of each actor, where there are several, the share of its time that it worked."""
        self.tally.add(outcome)
        self._busy = busy or {}
        # Counted beside the work: what was captioned before its folder was counted is missing from the count.
        self.total = total and max(total, self.tally.done)
        if isinstance(outcome, Skipped):
            return
        self._first_done = self._first_done or time.monotonic()
        if isinstance(outcome, Failed):
            self.say(f"failed: {printable(outcome.item.path)}: {outcome.error}", "red")
        elif self._show:
            flags = f"  [{', '.join(outcome.flags)}]" if outcome.flags else ""
            self.say(f"{printable(outcome.item.path)}: {outcome.caption}{flags}")
        self._refresh()

    def _refresh(self) -> None:
        of = "?" if self.total is None else str(self.total)
        counts = f"{self.tally.done}/{of}"
        if self.tally.flagged:
            counts += f", {self.tally.flagged} flagged"
        if self.tally.failed:
            counts += f", {self.tally.failed} failed"
        if self._busy:
            counts += f", {at_work(self._busy)}"
        if self._live:
            self._live.update(
                self._task, completed=self.tally.done, total=self.total, description=counts, pace=self._pace()
            )
        elif time.monotonic() - self._last_plain >= _PLAIN_EVERY_S:
            self._last_plain = time.monotonic()
            self.say(f"{counts}  {self._pace()}")

    def _pace(self) -> str:
        """Rate and time left, of the time since the first file was done: loading the model is no guide."""
        since = self.seconds - ((self._first_done or time.monotonic()) - self.started)
        if self.tally.done < 2 or since <= 0:
            return ""
        rate = (self.tally.done - 1) / since
        pace = f"{rate:.1f} files/s" if rate >= 1 else f"{rate * 60:.1f} files/min"
        if self.total is None:
            return pace
        return f"{pace}, {span(max(0, self.total - self.tally.done) / rate)} left"

    def summary(
        self, *, load_seconds: float, ignored: int, journals: list[Path], busy: Mapping[str, float] | None = None
    ) -> None:
        tally = self.tally
        parts = [f"{tally.captioned} captioned", f"{tally.skipped} skipped", f"{tally.failed} failed"]
        if tally.flagged:
            parts.append(f"{tally.flagged} flagged")
        if ignored:
            parts.append(f"{ignored} other files ignored")
        timing = f" in {span(self.seconds)}"
        if load_seconds:
            timing += f" (loading the model {span(load_seconds)})"
        self.say(", ".join(parts) + timing, "bold")
        if tally.failed:
            self.say("Failed, without a caption; run again once they are mended:", "red")
            for failure in tally.failures[:_FAILURES_IN_SUMMARY]:
                self.say(f"  {printable(failure['path'])}: {failure['error']}")
            if tally.failed > _FAILURES_IN_SUMMARY:
                self.say(f"  and {tally.failed - _FAILURES_IN_SUMMARY} more")
        if busy:
            self.say(at_work(busy), "dim")
        if repeated := tally.repeated:
            self.say(f"{repeated} captions stand on more than one file: `gemma-captioner check` shows which", "yellow")
        for journal in journals:
            self.say(f"Provenance of each caption: {printable(journal)}", "dim")


def at_work(busy: Mapping[str, float]) -> str:
    """8 actors, at work 91-97% of the time"""
    least, most = (f"{of(busy.values()):.0%}".rstrip("%") for of in (min, max))
    return f"{len(busy)} actors, at work {least}-{most}% of the time" if len(busy) > 1 else f"1 actor, at work {most}%"
