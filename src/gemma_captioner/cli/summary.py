"""The final summary of `caption`: what was done, what to review, and the next commands."""

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..dataset.unsearched import describe_unsearched
from ..pipeline.failures import describe_collisions, describe_failures
from ..redaction import redact_credentials, redact_token
from ..storage.filesystem import is_local
from ..text import counted, format_duration, format_estimate, listed, printable
from ..types import CAPTIONED
from .progress import ProgressReporter, format_utilization

if TYPE_CHECKING:
    from ..executors.local import Run


def print_summary(reporter: ProgressReporter, run: "Run", command_line: Sequence[str] | None) -> None:
    """command_line: the words of the `caption` command, None for a one-shot script."""
    stats = reporter.stats
    reporter.log(_counts(reporter, run), "bold")
    if stats.collisions:
        reporter.log(describe_collisions([_short(path, run) for path in stats.collisions]), "red")
    if stats.captioned:
        reporter.log(f"{_places(run)}; median length {counted(stats.median_words, 'word')}")
    for flag, count in stats.flags.most_common():
        reporter.log(f"flagged {flag}: {listed(stats.flagged_files[flag], total=count)}", "yellow")
    if num_repeated := stats.num_repeated:
        reporter.log(
            f"{num_repeated:,} files have the same caption as another file: `gemma-captioner check` shows which",
            "yellow",
        )
    collisions = set(stats.collisions)
    others = [(_short(f["path"], run), f["error"]) for f in stats.failures if f["path"] not in collisions]
    if others:
        reporter.log("These files failed. Existing captions are unchanged:", "red")
        for line in describe_failures(others):
            reporter.log(f"  {line}")
    for note in (describe_unsearched(run.plan.discovery.unsearched), _extrapolation(reporter, run)):
        if note:
            reporter.log(note, "yellow")
    if run.utilization:
        reporter.log(format_utilization(run.utilization), "dim")
    for journal in run.journals:
        reporter.log(f"The journal of this run: {printable(journal)}", "dim")
    commands = list(_next_commands(reporter, run, command_line)) if command_line else []
    if commands:
        reporter.log("Next:")
    for command, why in commands:
        reporter.log(f"  {why}:")
        reporter.log(f"    {command}")


def _short(path: str, run: "Run") -> str:
    """The path within the folder that was given, if there was one."""
    return path.removeprefix(f"{run.roots[0].folder}/") if len(run.roots) == 1 else path


def _counts(reporter: ProgressReporter, run: "Run") -> str:
    """# 12 captioned, 3 skipped, 0 failed, 1 other file ignored in 4.2s (loading the model took 1.0s)"""
    stats = reporter.stats
    parts = [f"{stats.captioned:,} captioned", f"{stats.skipped:,} skipped", f"{stats.failed:,} failed"]
    unusual = [f"{count:,} {reason}" for reason, count in stats.skip_reasons.items() if reason != CAPTIONED]
    if unusual:
        parts[1] += f" ({'; '.join(unusual)})"
    if stats.flagged:
        parts.append(f"{stats.flagged:,} flagged")
    if ignored := run.plan.ignored:
        parts.append(f"{counted(ignored, 'other file')} ignored")
    if elsewhere := run.plan.num_in_other_shards:
        parts.append(f"{counted(elsewhere, 'file')} in other shards")
    loading = f" (loading the model took {format_duration(run.load_seconds)})" if run.load_seconds >= 0.1 else ""
    return f"{', '.join(parts)} in {format_duration(reporter.seconds)}{loading}"


def _places(run: "Run") -> str:
    """# Captions: beside the files in photos/      Captions: in captions/"""
    if run.settings.selection.captions_to == "parquet":
        return f"Captions: in the Parquet files of {printable(run.roots[0].store)}"
    beside = [printable(root.folder) for root in run.roots if root.captions == root.folder]
    elsewhere = [printable(root.captions) for root in run.roots if root.captions != root.folder]
    return "Captions: " + ", ".join([f"beside the files in {where}" for where in beside] + elsewhere)


def _extrapolation(reporter: ProgressReporter, run: "Run") -> str | None:
    """# --limit 5: all 5,000 files would take about 2 h 10 min"""
    left, done, limit = run.plan.num_beyond_limit, reporter.stats.done, run.settings.selection.limit
    if not left:
        return None
    if not done:
        return f"--limit {limit}: nothing was captioned, and {counted(left, 'file')} would be without it"
    started = reporter.started + run.load_seconds if run.loaded_at is None else run.loaded_at  # excludes imports
    seconds = (time.monotonic() - started) / done * (done + left) + run.load_seconds
    return f"--limit {limit}: all {counted(done + left, 'file')} would take about {format_estimate(seconds)}"


def _next_commands(reporter: ProgressReporter, run: "Run", words: Sequence[str]) -> Iterator[tuple[str, str]]:
    stats, selection = reporter.stats, run.settings.selection
    same = _without(words, "--only", "--existing", "--limit", "--stop-after")
    if run.stopped_by_deadline:
        yield _shown(words), "Resume"
    if run.plan.num_beyond_limit:
        replaces_all = selection.existing == "overwrite"
        yield _shown(_without(words, "--limit")), f"Caption {'all' if replaces_all else 'the remaining'} files"
    writes_txt = selection.captions_to == "txt"
    if writes_txt and stats.skip_reasons.get(CAPTIONED) and not stats.captioned and selection.existing == "skip":
        yield _shown([*same, "--existing", "overwrite"]), "Replace the captions that exist"
    if stats.failed and not run.stopped_by_deadline:
        yield _shown(words), "After you repair the failed files, run this again"
    if stats.flagged and writes_txt:
        yield _shown([*same, "--only", "flagged"]), "Caption the flagged files again"
    local = [root.folder for root in run.roots if is_local(root.folder) and not root.is_tar]
    if local and writes_txt and (stats.done or stats.skipped) and run.roots[0].captions.is_dir():
        words = [shlex.quote(printable(local[0])), *["--recursive"] * selection.recursive]
        if selection.output is not None:
            words += ["--captions", shlex.quote(printable(run.roots[0].captions))]
        yield f"gemma-captioner check {' '.join(words)}", "Find problems before training"


def _without(words: Sequence[str], *options: str) -> list[str]:
    """# a -p x --limit 5, --limit -> a -p x"""
    kept, skip_value = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip_value or name in options:
            skip_value = not skip_value and not equals
        else:
            kept.append(word)
    return kept


def _shown(words: Sequence[str]) -> str:
    """The command without tokens and passwords."""
    hidden = ["gemma-captioner"]
    for word in words:
        name, equals, _ = word.partition("=")
        if hidden[-1] == "--hf-token" or (name == "--hf-token" and equals):
            hidden.append(f"{(name + equals) * bool(equals)}TOKEN")
        else:
            has_url = "://" in word or hidden[-1] == "--serve"
            hidden.append(redact_credentials(word) if has_url else redact_token(word))
    return printable(shlex.join(hidden))
