"""`gemma-captioner check`: prints the problems of a dataset's captions, as text or JSON, and writes a page."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..check.settings import CheckSettings, TriggerSettings
from ..config.formats import FORMATS, format_spec
from ..config.targets import target_in_mode
from ..dataset.containment import check_store_is_contained
from ..dataset.journal import journal_path
from ..dataset.sidecar import DOT_FOLDER
from ..dataset.unsearched import describe_unsearched
from ..errors import StartError, UsageError
from ..text import counted, file_error, format_duration, format_estimate, printable
from .help import examples
from .look import LOOK_OPTIONS, pop_look_options, run_look
from .options import LocalPathOption, Option, Options, with_options
from .progress import Rate
from .shell import app, err, out, print_json
from .targets import warn_if_unlisted

if TYPE_CHECKING:
    from ..check.scan import DatasetScan

_MAX_FILES_SHOWN = 3
_PROGRESS_INTERVAL = 200
_LIVE_INTERVAL_S, _PLAIN_INTERVAL_S = 0.2, 30.0


_FOR = Option(str | None, None, "Also check what this trainer requires, for example `sd-scripts:sdxl`.")

_FORMAT = Option(
    str | None,
    None,
    f"Check that every caption has this format: {', '.join(FORMATS)}, or a .json file with a JSON Schema. "
    "[default: detected for each caption]",
)


@app.command(help_epilogue=examples("check"))
@with_options(
    Options(CheckSettings, changed={"for_": _FOR, "format": _FORMAT}), Options(TriggerSettings), *LOOK_OPTIONS
)
def check(
    folder: Annotated[
        LocalPathOption, Parameter(help="The dataset to check. Any tool or person may have written its captions.")
    ],
    /,
    *,
    fix: Annotated[
        bool, Parameter(help="Repair what can be repaired automatically. `restore` undoes it.", negative=())
    ] = False,
    html: Annotated[
        Path | None,
        Parameter(help="Write the page here. [default: .gemma-captioner/check/report.html in the folder]"),
    ] = None,
    json_: Annotated[bool, Parameter(help="Print one JSON object on stdout instead of the list.", negative=())] = False,
    **flags: Any,
) -> int:
    """Check a dataset's captions for problems before training.

    Errors break training or teach the model wrong things; if there are any, the exit code is 3. Notes need a look.
    Loads no model, unless --look is given.
    """
    from ..captions.formats import get_format
    from ..check.media.run import require_libraries
    from ..check.report import as_json, report_page
    from ..check.scan import DatasetScan
    from ..check.trigger.report import TriggerReport
    from ..dataset.discover import resolve_roots
    from ..engines.local.tokenizer import token_counter

    start = time.monotonic()
    trigger_settings, model_layer = pop_look_options(flags)
    if fix and trigger_settings.dry_run:
        raise UsageError("--dry-run and --fix cannot be combined: leave out one of them")
    settings = CheckSettings.from_dict(flags)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{printable(folder)} is a file: give its folder")
    if settings.for_:
        target_in_mode(settings.for_, settings.train_mode)
        warn_if_unlisted(settings.for_)
    caption_format = None if settings.format is None else get_format(format_spec(settings.format))
    if settings.media:
        require_libraries()
    [root] = resolve_roots([folder], settings.captions)
    if html is None or settings.media:
        check_store_is_contained(root.folder)
    if fix:
        check_store_is_contained(root.store)
    scan = DatasetScan(root, settings, token_counter(settings.tokenizer), caption_format)
    trigger = None
    if trigger_settings.trigger is not None:
        trigger = TriggerReport(trigger_settings.trigger.strip(), root.folder, settings)
        scan.on_caption = trigger.add
    try:
        with err.status("reading the folder") as status:

            def on_progress(files: int) -> None:
                if files % _PROGRESS_INTERVAL == 0:
                    status.update(f"{files:,} files read")

            scan.run(fix=fix, on_progress=on_progress)
    finally:
        if scan.fixed:
            repaired = f"{counted(len({f.path for f in scan.fixed}), 'caption')} repaired."
            if scan.can_undo:
                err.print(f"{repaired} To undo this:")
                err.print(f"  {scan.undo_command}", soft_wrap=True)
            else:
                journal = printable(journal_path(root.store, scan.run_id))
                err.print(f"{repaired} Their original texts are in {journal}", soft_wrap=True)
    if settings.media:
        _check_media(scan)
    cost, failure = None, None
    if trigger is not None:
        cost, failure = run_look(trigger, scan, trigger_settings, model_layer)
        scan.findings += trigger.findings()
    page = _write_page(report_page(scan, trigger), html or root.folder / DOT_FOLDER / "check" / "report.html")
    summary = as_json(scan, time.monotonic() - start, page, trigger)
    summary |= ({"dry_run": cost} if cost else {}) | ({"error": str(failure)} if failure else {})
    nothing = f"no images or clips in {printable(root.folder)}: check the folder, or add --recursive for subfolders"
    if not scan.files:
        summary["error"] = nothing
    if json_:
        print_json(summary)
    else:
        _print(scan, summary)
    if not scan.files:
        raise StartError(nothing)
    if failure is not None:
        raise failure
    if note := describe_unsearched(scan.unsearched):
        err.print(note, style="yellow")
    return 3 if summary["errors"] else 0


def _check_media(scan: "DatasetScan") -> None:
    """Measure the media. Ctrl-C ends the check; what was measured is kept."""
    from ..check.media.run import check_media

    rate, total = Rate(), len(scan.media)
    shown_at = start = time.monotonic()
    with err.status("measuring images and clips") as status:

        def on_progress(done: int, measured: int) -> None:
            nonlocal shown_at
            now = time.monotonic()
            rate.add(now, measured)
            if now - shown_at < (_LIVE_INTERVAL_S if err.is_terminal else _PLAIN_INTERVAL_S):
                return
            shown_at = now
            per_second = rate.per_second(now) or measured / max(now - start, 1e-9)
            left = format_estimate((total - done) / per_second)
            text = f"{done:,}/{total:,} files measured, {per_second:.1f} files/s, {left} left"
            if err.is_terminal:
                status.update(text)
            else:
                err.print(text)

        scan.findings += check_media(scan.root, scan.media, scan.settings, on_progress, err.print)


def _write_page(text: str, page: Path) -> Path | None:
    """Write the page. Returns None if it cannot be written: the terminal shows the result all the same."""
    from ..pages import require_page_path

    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        require_page_path(page)
        page.write_text(text, encoding="utf-8")
        return page
    except OSError as error:
        why = f"{printable(page)} cannot be written ({file_error(error)}): give another path with --html"
        err.print(f"the page was not written: {why}", soft_wrap=True)
        return None


def _print(scan: "DatasetScan", summary: dict[str, Any]) -> None:
    from ..check.report import group_by_rule
    from ..check.trigger.rules import TRIGGER_RULES

    by_rule = group_by_rule(scan.findings, scan.rules)
    width = max(map(len, by_rule), default=0)
    for name, found in by_rule.items():
        rule = scan.rules[name]
        style = "bold red" if rule.severity == "error" else "yellow"
        out.print(f"{rule.severity:5} {name:{width}}", style=style, end=" ")
        out.print(f"{len(found):6,}  {rule.description}")
        most = len(found) if name in TRIGGER_RULES else _MAX_FILES_SHOWN
        for finding in found[:most]:
            where = "" if name in TRIGGER_RULES else scan.short(finding.path)
            out.print(f"      {': '.join(filter(None, (where, printable(finding.detail))))}")
        if len(found) > most:
            out.print(f"      and {len(found) - most} more")
        out.print(f"      -> {rule.remedy}{' (or run with --fix)' * rule.fixed}", style="dim")
    out.print(
        f"{counted(summary['files'], 'media file')}, {counted(summary['captions'], 'caption')}: "
        f"{counted(summary['errors'], 'error')}, {counted(summary['notes'], 'note')}, "
        f"in {format_duration(summary['seconds'])}",
        style="bold",
    )
    if summary["formats"].keys() - {"prose"}:
        formats = (f"{count:,} {name}" for name, count in summary["formats"].items())
        out.print(f"Caption formats: {', '.join(formats)}")
    for name, captions in scan.names.captions.items():
        shown = ", ".join(map(scan.short, captions[:_MAX_FILES_SHOWN]))
        more = f" and {len(captions) - _MAX_FILES_SHOWN} more" if len(captions) > _MAX_FILES_SHOWN else ""
        out.print(f"{printable(name)}: {counted(len(captions), 'caption')}{f': {shown}{more}' if captions else ''}")
    if summary["report"]:
        out.print(f"The full list, with pictures: {printable(summary['report'])}")
