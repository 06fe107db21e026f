"""`gemma-captioner compare`; how a comparison is laid out is in compare/shown.py and comparison.py."""

import signal
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from ..compare.comparison import Comparison
from ..compare.sample import page_path, sample_of
from ..compare.shown import as_json, as_page
from ..compare.variants import Axes, Variant, variants_of
from ..config import settings as knobs
from ..config.settings import Settings
from ..dataset.discover import roots_of
from ..dataset.journal import new_run_id
from ..errors import StorageError
from ..prompts.facts import facts_for
from ..storage.places import Local
from ..text import printable, span
from .caption import Terminated, read_config, stage, terminate
from .comparison import as_text
from .progress import Report
from .shell import app, err, out, print_json

_WHICH = knobs.Selection.model_fields


class Sample(knobs.Group):
    recursive: bool = Field(False, description=_WHICH["recursive"].description)
    include: tuple[str, ...] = Field((), description=_WHICH["include"].description)
    exclude: tuple[str, ...] = Field((), description=_WHICH["exclude"].description)
    limit: int = Field(6, ge=1, description="How many files: spread evenly over all there are, captioned or not.")


# What is compared may be given again and again, and replaces the knob of its name; the rest is as `caption` has it.


class Prompting(knobs.Prompting):
    prompt: tuple[str, ...] = Field((), description="A prompt to compare. Repeatable.")
    prompt_file: tuple[Path, ...] = Field(  # type: ignore[assignment]
        (), description="A prompt to compare, read from this file. Repeatable."
    )
    preset: tuple[str, ...] = Field(  # type: ignore[assignment]
        (), description="A preset to compare, see `gemma-captioner presets`. Repeatable."
    )


class Sampling(knobs.Sampling):
    frames: tuple[int, ...] = Field(  # type: ignore[assignment]
        (), description="A number of frames of a clip to compare. Repeatable. [default: 12]"
    )


class Model(knobs.Model):
    model: tuple[str, ...] = Field(  # type: ignore[assignment]
        (), description="A model to compare: a Hugging Face id, a local folder, or `demo`. Repeatable."
    )


class Conduct(knobs.Conduct):
    stop_after: Annotated[str | None, Parameter(parse=False)] = None


class Telling(knobs.Group):
    config: Annotated[Path | None, Parameter(help="Options from a TOML file: `frames = 8`. Flags beat it.")] = None
    html: Annotated[
        Path | None, Parameter(help="Where the page goes. [default: DIR/.gemma-captioner/compare/TIME.html]")
    ] = None
    json_: Annotated[bool, Parameter(name="--json", help="Print one JSON object on stdout.", negative=())] = False
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=())] = False


@app.command
def compare(
    paths: Annotated[list[Local], Parameter(help="Folders and files, images and clips mixed.")],
    /,
    *,
    sample: Annotated[Sample, stage("Which files")] = Sample(),
    prompting: Annotated[Prompting, stage("The prompt and the caption")] = Prompting(),
    sampling: Annotated[Sampling, stage("Clips")] = Sampling(),
    reading: Annotated[knobs.Reading, stage("Reading files")] = knobs.Reading(),
    generation: Annotated[knobs.Generation, stage("The answer")] = knobs.Generation(),
    judging: Annotated[knobs.Judging, stage("What is fit")] = knobs.Judging(),
    model: Annotated[Model, stage("The model")] = Model(),
    server: Annotated[knobs.Server, stage("The server")] = knobs.Server(),
    conduct: Annotated[Conduct, stage("The run")] = Conduct(),
    telling: Annotated[Telling, stage("The run")] = Telling(),
) -> int:
    """Caption a few files in several ways, and see the captions side by side: here, and as a page with the frames.

    What is compared is every combination of the models, the prompts (a preset stands for one) and the numbers of frames
    that are given. Nothing is written beside the media, and no caption is touched.
    """
    flags: dict[str, Any] = {}
    for group in (sample, prompting, sampling, reading, generation, judging, model, server, conduct):
        flags |= group.model_dump(exclude_unset=True)
    flags.pop("limit", None)
    axes = Axes(
        models=flags.pop("model", ()),
        prompts=flags.pop("prompt", ()),
        prompt_files=flags.pop("prompt_file", ()),
        presets=flags.pop("preset", ()),
        frames=flags.pop("frames", ()),
    )
    return _compare(paths, variants_of(axes, read_config(telling.config), flags), sample.limit, telling)


def _compare(paths: list[Path], variants: list[Variant], limit: int, telling: Telling) -> int:
    for variant in variants:
        facts_for(variant.settings)  # what its prompts ask for is known, or told now
    settings = variants[0].settings
    roots = roots_of(paths, settings.selection.output)
    report = Report(err, show=False)
    items, files = sample_of(roots, settings.selection, limit, report.say)
    html = telling.html or page_path(roots, new_run_id())
    _see_that_a_page_can_be_written(html)
    comparison = Comparison(items, variants, _token_counter(settings))
    interrupted = _run(comparison, report)
    if telling.debug:
        err.print("".join(column.trace for column in comparison.columns), markup=False, soft_wrap=True)
    if telling.json_:
        whole = {"files": files, "html": str(html) if comparison.has_answers else None}
        print_json({**whole, "seconds": round(report.seconds, 3), "variants": as_json(comparison)})
    elif comparison.has_answers:
        out.print(as_text(comparison), soft_wrap=False)
    if comparison.has_answers:
        what = f"{len(items)} of {files:,} files, {len(variants)} variants"
        where = ", ".join(printable(root.folder) for root in roots)
        page = as_page(comparison, title=f"Captions of {where}", about=f"{what}, {datetime.now():%Y-%m-%d %H:%M}")
        html.write_text(page, encoding="utf-8", errors="backslashreplace")
        report.say(f"{what} in {span(report.seconds)}. With the frames: {printable(html)}", "bold")
    return interrupted or comparison.exit_code


def _run(comparison: Comparison, report: Report) -> int | None:
    """The exit code of an interruption, None where it came to its end."""
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with report, closing(comparison.run(report.say)) as outcomes:
            for outcome in outcomes:
                report.tell(outcome, comparison.total)
    except (KeyboardInterrupt, Terminated) as interruption:
        report.say("interrupted", "yellow")
        return 143 if isinstance(interruption, Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return None


def _token_counter(settings: Settings) -> Callable[[str], int] | None:
    """Of --tokenizer, None where tokens are to be estimated."""
    if settings.judging.tokenizer is None:
        return None
    from ..engines.local.tokenizer import token_counter

    return token_counter(settings.judging.tokenizer, settings.model.hf_token)


def _see_that_a_page_can_be_written(html: Path) -> None:
    """Before any time is spent on what stands in it."""
    try:
        html.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=html.parent).close()
    except OSError as error:
        raise StorageError(
            f"{html}: no page can be written there ({error.strerror}): name a place with --html"
        ) from error
