"""`gemma-captioner check`: what is wrong with a dataset's captions, in the terminal, as JSON and as a page."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..check.settings import CheckSettings
from ..config.targets import get_trainer
from ..dataset.sidecar import DOT_FOLDER
from ..errors import StartError, UsageError
from ..text import format_duration, printable
from .options import LocalPathOption, Option, Options, with_options
from .shell import app, err, out, print_json

if TYPE_CHECKING:
    from ..check.scan import DatasetScan

_MAX_FILES_SHOWN = 3
_PROGRESS_INTERVAL = 200


_FOR = Option(str | None, None, "Look for what this trainer trips over, TRAINER[:MODEL], sd-scripts:sdxl.")


@app.command
@with_options(Options(CheckSettings, changed={"for_": _FOR}), before="fix")
def check(
    folder: Annotated[LocalPathOption, Parameter(help="The dataset, captioned by whatever tool or hand.")],
    /,
    *,
    fix: Annotated[
        bool, Parameter(help="Mend what can be mended by rule; `restore` takes it back.", negative=())
    ] = False,
    html: Annotated[
        Path | None,
        Parameter(help="Where to write the page. [default: .gemma-captioner/check/report.html in the folder]"),
    ] = None,
    json_: Annotated[
        bool, Parameter(name="--json", help="Print one JSON object on stdout, and nothing else.", negative=())
    ] = False,
    **flags: Any,
) -> int:
    """Find what is wrong with a dataset's captions: before it is trained on, not after.

    Errors break training or teach rubbish: any of them, and the exit code is 3. Notes are to be looked at. Loads no
    model, opens no clip but for the pictures on the page.
    """
    from ..check.report import as_json, render_page
    from ..check.scan import DatasetScan
    from ..dataset.discover import resolve_roots

    begun = time.monotonic()
    checking = CheckSettings.from_dict(flags)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{printable(folder)} is a file: give the folder that it lies in")
    if checking.for_:
        get_trainer(checking.for_)
    [root] = resolve_roots([folder], checking.captions)
    scan = DatasetScan(root, checking, _counter(checking))
    try:
        with err.status("reading") as status:

            def on_progress(files: int) -> None:
                if files % _PROGRESS_INTERVAL == 0:
                    status.update(f"{files} images and clips")

            scan.run(fix=fix, on_progress=on_progress)
    finally:
        if scan.fixed:
            err.print(f"{len({f.path for f in scan.fixed})} captions mended; to take that back:", markup=False)
            err.print(f"  {scan.undo_command}", markup=False, soft_wrap=True)
    page = _write_page(render_page(scan), html or root.folder / DOT_FOLDER / "check" / "report.html")
    summary = as_json(scan, time.monotonic() - begun, page)
    if json_:
        print_json(summary)
    else:
        _print(scan, summary)
    if not scan.files:
        raise StartError(
            f"no images or clips in {printable(root.folder)}: check the folder, and --recursive for subfolders"
        )
    return 3 if summary["errors"] else 0


def _counter(checking: CheckSettings) -> Callable[[str], int] | None:
    if checking.tokenizer is None:
        return None
    from ..engines.local.tokenizer import token_counter

    return token_counter(checking.tokenizer, None)


def _write_page(text: str, page: Path) -> Path | None:
    """The page, None where it cannot be written: what was found is told all the same."""
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8", errors="backslashreplace")
        return page
    except OSError as error:
        remedy = f"cannot be written ({error.strerror}); --html FILE puts it elsewhere"
        err.print(f"no page: {printable(page)} {remedy}", markup=False, soft_wrap=True)
        return None


def _print(scan: "DatasetScan", summary: dict[str, Any]) -> None:
    from ..check.report import group_by_rule
    from ..check.trainer_rules import RULES

    codes = group_by_rule(scan.findings)
    width = max(map(len, codes), default=0)
    for name, found in codes.items():
        code = RULES[name]
        style = "bold red" if code.severity == "error" else "yellow"
        out.print(f"[{style}]{code.severity:5} {name:{width}}[/] {len(found):6,}  ", end="")
        out.print(code.description, markup=False)
        for finding in found[:_MAX_FILES_SHOWN]:
            what = f": {printable(finding.what)}" if finding.what else ""
            out.print(f"      {scan.short(finding.path)}{what}", markup=False)
        if len(found) > _MAX_FILES_SHOWN:
            out.print(f"      and {len(found) - _MAX_FILES_SHOWN} more", markup=False)
        out.print(f"      -> {code.remedy}{' (--fix does)' * code.fixed}", markup=False, style="dim")
    out.print(
        f"{summary['files']} images and clips, {summary['captions']} captions: "
        f"{summary['errors']} errors, {summary['notes']} notes, in {format_duration(summary['seconds'])}",
        markup=False,
        style="bold",
    )
    if summary["report"]:
        out.print(f"All of them, with pictures: {printable(summary['report'])}", markup=False)
