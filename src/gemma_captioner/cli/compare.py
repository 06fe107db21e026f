"""`gemma-captioner compare`. compare/report.py builds the page, comparison.py the text for the terminal."""

import signal
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from ..config.decoding import FrameSamplingSettings
from ..config.group import SettingsGroup
from ..config.model import AUTO, ModelSettings
from ..config.prompting import PromptSettings
from ..config.run import ClusterSettings, RunOptions
from ..config.selection import SelectionSettings
from ..config.settings import Settings
from ..dataset.containment import check_store_is_contained
from ..dataset.discover import resolve_roots
from ..dataset.journal import new_run_id
from ..errors import StorageError
from ..text import counted, file_error, format_duration, printable
from .caption import CAPTION_OPTIONS, OutputOptions, Terminated, read_config_file, terminate
from .help import examples
from .options import LocalPathOption, Option, Options, pop_options, repeatable, with_options
from .progress import ProgressReporter
from .shell import app, err, out, print_json

if TYPE_CHECKING:
    from ..compare.comparison import Comparison
    from ..compare.variants import Variant


class SampleSettings(SettingsGroup):
    limit: int = Field(
        6, ge=1, description="Caption this many files, spread evenly over all files, with or without a caption."
    )


# An option that is compared may be repeated, and replaces the setting of its name. The others are those of `caption`.
_CHANGED: Mapping[type[SettingsGroup], Mapping[str, Option | None]] = {
    PromptSettings: {
        "prompt": repeatable(str, "A prompt to compare. Repeatable."),
        "prompt_file": repeatable(Path, "Read a prompt to compare from this file. Repeatable."),
        "preset": repeatable(str, "A preset to compare; `gemma-captioner presets` lists them. Repeatable."),
    },
    FrameSamplingSettings: {
        "frames": repeatable(int, "A number of frames per clip to compare. Repeatable. [default: 12]")
    },
    ModelSettings: {
        "model": repeatable(
            str,
            f"A model to compare: a Hugging Face id, a local folder, or `demo`. Repeatable. [default: {AUTO}]",
        )
    },
    RunOptions: {"stop_after": None},
}
_COMPARE_OPTIONS = (
    Options(SelectionSettings, only=("recursive", "include", "exclude")),
    *(
        replace(s, changed=_CHANGED.get(s.group, {}))
        for s in CAPTION_OPTIONS
        if s.group not in (SelectionSettings, ClusterSettings)
    ),
)


class CompareOutputOptions(SettingsGroup):
    config: Path | None = Field(None, description=OutputOptions.model_fields["config"].description)
    html: Path | None = Field(
        None, description="Write the page here. [default: .gemma-captioner/compare/TIME.html in the folder]"
    )
    json_: bool = Field(False, description="Print one JSON object on stdout at the end.")
    debug: bool = Field(False, description="Show Python tracebacks.")


@app.command(help_epilogue=examples("compare"))
@with_options(*_COMPARE_OPTIONS, Options(SampleSettings), Options(CompareOutputOptions))
def compare(
    paths: Annotated[list[LocalPathOption], Parameter(help="Folders and files: images, clips or both.")],
    /,
    **flags: Any,
) -> int:
    """Caption a few files in several ways and show the captions side by side.

    Compares every combination of the given models, prompts or presets, and numbers of frames. Prints the captions and
    writes a page that shows them with the frames. Changes no caption and writes nothing beside the media.
    """
    sample, output_options = pop_options(SampleSettings, flags), pop_options(CompareOutputOptions, flags)
    from ..compare.variants import Axes, build_variants
    from ..engines import choose_model

    axes = Axes(
        models=flags.pop("model", ()),
        prompts=flags.pop("prompt", ()),
        prompt_files=flags.pop("prompt_file", ()),
        presets=flags.pop("preset", ()),
        frames=flags.pop("frames", ()),
    )
    config = read_config_file(output_options.config, flags)
    if not axes.models:  # the page names the model that `auto` means
        named = choose_model(Settings.from_dict(config, flags), partial(err.print, soft_wrap=True))
        flags |= {"model": named.model.model} if named.has_explicit_model else {}
    return _compare(paths, build_variants(axes, config, flags), sample.limit, output_options)


def _compare(paths: list[Path], variants: "list[Variant]", limit: int, output_options: CompareOutputOptions) -> int:
    from ..compare.comparison import Comparison
    from ..compare.report import as_json, as_page
    from ..compare.sample import page_path, select_sample
    from ..engines.local.tokenizer import token_counter
    from ..pipeline.transcription import Transcripts
    from ..prompts.metadata import load_metadata
    from ..prompts.sources import exclude_control
    from .comparison import as_text

    for variant in variants:
        Transcripts(variant.settings, load_metadata(variant.settings))  # fails now if a prompt cannot be filled
    settings = variants[0].settings
    roots = resolve_roots(paths, settings.selection.output)
    reporter = ProgressReporter(err, show=False)
    selection = exclude_control(settings.selection, roots, settings.prompting.control)
    items, files = select_sample(roots, selection, limit, reporter.log)
    if output_options.html is None:
        check_store_is_contained(roots[0].folder)
    html = output_options.html or page_path(roots, new_run_id())
    _check_page_writable(html)
    comparison = Comparison(items, variants, token_counter(settings.quality.tokenizer, settings.model.hf_token))
    interrupted = _run(comparison, reporter)
    if output_options.debug:
        err.print("".join(column.trace for column in comparison.columns), soft_wrap=True)
    if output_options.json_:
        whole = {"files": files, "html": str(html) if comparison.has_answers else None}
        print_json({**whole, "seconds": round(reporter.seconds, 3), "variants": as_json(comparison)})
    elif comparison.has_answers:
        out.print(as_text(comparison), soft_wrap=False)
    if comparison.has_answers:
        what = f"{len(items)} of {counted(files, 'file')}, {counted(len(variants), 'variant')}"
        where = ", ".join(printable(root.folder) for root in roots)
        page = as_page(comparison, title=f"Captions of {where}", about=f"{what}, {datetime.now():%Y-%m-%d %H:%M}")
        html.write_text(page, encoding="utf-8")
        reporter.log(
            f"{what} in {format_duration(reporter.seconds)}. The page with the frames: {printable(html)}", "bold"
        )
    return interrupted or comparison.exit_code


def _run(comparison: "Comparison", reporter: ProgressReporter) -> int | None:
    """Run it. Returns the exit code of an interruption, else None."""
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with reporter, closing(comparison.run(reporter.log)) as outcomes:
            for outcome in outcomes:
                reporter.update(outcome, comparison.total)
    except (KeyboardInterrupt, Terminated) as interruption:
        reporter.log("interrupted: the page holds the captions made so far", "yellow")
        return 143 if isinstance(interruption, Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return None


def _check_page_writable(html: Path) -> None:
    """Check this before any caption is made. Raises `StorageError`."""
    from ..pages import require_page_path

    try:
        html.parent.mkdir(parents=True, exist_ok=True)
        require_page_path(html)
        tempfile.TemporaryFile(dir=html.parent).close()
    except OSError as error:
        raise StorageError(
            f"{printable(html)} cannot be written ({file_error(error)}): give another path with --html"
        ) from error
