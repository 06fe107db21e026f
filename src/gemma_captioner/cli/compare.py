"""`gemma-captioner compare`; how a comparison is laid out is in compare/shown.py."""

import signal
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from .. import settings as knobs
from ..errors import ModelError, StorageError, without_token
from ..media.discover import roots_of
from ..report import Report, printable, span
from ..settings import Settings
from ..store.journal import new_run_id
from .caption import Terminated, read_config, stage, terminate
from .shell import app, err, out, print_json

_WHICH = knobs.Selection.model_fields


class Sample(knobs.Group):
    recursive: bool = Field(False, description=_WHICH["recursive"].description)
    include: tuple[str, ...] = Field((), description=_WHICH["include"].description)
    exclude: tuple[str, ...] = Field((), description=_WHICH["exclude"].description)
    limit: int = Field(6, ge=1, description="How many files: spread evenly over all there are, captioned or not.")


# What takes part in the comparison may be given again and again; the rest is as `caption` has it.


class Prompting(knobs.Prompting):
    prompt: tuple[str, ...] = Field((), description="A prompt to compare. Repeatable.")  # type: ignore[assignment]
    prompt_file: tuple[Path, ...] = Field((), description="A prompt to compare, read from a file. Repeatable.")  # type: ignore[assignment]
    preset: tuple[str, ...] = Field((), description="A preset to compare, see `presets`. Repeatable.")  # type: ignore[assignment]


class Sampling(knobs.Sampling):
    frames: tuple[int, ...] = Field((), description="Frames of a clip to compare. Repeatable.")  # type: ignore[assignment]


class Model(knobs.Model):
    model: tuple[str, ...] = Field(  # type: ignore[assignment]
        (), description="A model to compare: a Hugging Face id, a local folder, or `demo`. Repeatable."
    )


class Conduct(knobs.Conduct):
    stop_after: Annotated[str | None, Parameter(parse=False)] = None


class Telling(knobs.Group):
    config: Annotated[Path | None, Parameter(help="Options from a TOML file: `trigger = \"ohwx\"`. Flags beat it.")] = None
    html: Annotated[
        Path | None, Parameter(help="Where the page goes. [default: DIR/.gemma-captioner/compare/TIME.html]")
    ] = None
    json_: Annotated[bool, Parameter(name="--json", help="Print one JSON object on stdout instead.", negative=())] = (
        False
    )
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=())] = False


@app.command
def compare(
    paths: Annotated[list[Path], Parameter(help="Folders and files, images and clips mixed.")],
    /,
    *,
    sample: Annotated[Sample, stage("Which files")] = Sample(),
    prompting: Annotated[Prompting, stage("The prompt and the caption")] = Prompting(),
    sampling: Annotated[Sampling, stage("Clips")] = Sampling(),
    reading: Annotated[knobs.Reading, stage("Reading files")] = knobs.Reading(),
    generation: Annotated[knobs.Generation, stage("The answer")] = knobs.Generation(),
    judging: Annotated[knobs.Judging, stage("What is fit")] = knobs.Judging(),
    model: Annotated[Model, stage("The model")] = Model(),
    conduct: Annotated[Conduct, stage("The run")] = Conduct(),
    telling: Annotated[Telling, stage("The run")] = Telling(),
) -> int:
    """Caption a few files in several ways, and see the captions side by side: here, and as a page with the frames.

    The variants are all combinations of what is given more than once: --prompt, --prompt-file and --preset (of which
    each stands for a prompt), --model, --frames. Nothing is written beside the media, and no caption is touched.
    """
    from ..compare.comparison import Comparison
    from ..compare.sample import page_path, sample_of
    from ..compare.shown import as_json, as_page, as_text
    from ..compare.variants import Axes, variants_of
    from ..prompts import facts_for

    flags: dict[str, Any] = {}
    for group in (sample, prompting, sampling, reading, generation, judging, model, conduct):
        flags |= group.model_dump(exclude_unset=True)
    flags.pop("limit", None)
    axes = Axes(
        models=flags.pop("model", ()),
        prompts=flags.pop("prompt", ()),
        prompt_files=flags.pop("prompt_file", ()),
        presets=flags.pop("preset", ()),
        frames=flags.pop("frames", ()),
    )
    variants = variants_of(axes, read_config(telling.config), flags)
    for variant in variants:
        facts_for(variant.settings)  # what its prompt asks for is known, or told now
    settings = variants[0].settings
    report = Report(err, show=False)
    roots = roots_of(paths, settings.selection.output)
    items, files = sample_of(roots, settings.selection, sample.limit, lambda failed: report.tell(failed, None))
    html = telling.html or page_path(roots, new_run_id())
    _see_that_it_can_be_written(html)
    comparison = Comparison(items, variants, _token_counter(settings))
    code = None
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        with report, closing(comparison.run(report.say)) as outcomes:
            for outcome in outcomes:
                report.tell(outcome, comparison.total)
    except (KeyboardInterrupt, Terminated) as interruption:
        code = 143 if isinstance(interruption, Terminated) else 130
        report.say("interrupted: what is there is shown", "yellow")
    finally:
        signal.signal(signal.SIGTERM, previous)
    if telling.debug:
        for column in comparison.columns:
            if column.fault is not None:
                trace = "".join(traceback.format_exception(column.fault))
                err.print(without_token(trace, settings.model.hf_token), markup=False, soft_wrap=True)
    if comparison.has_answers:
        about = f"{len(items)} of {files:,} files, {len(variants)} variants, {time.strftime('%Y-%m-%d %H:%M')}"
        where = ", ".join(printable(root.folder) for root in roots)
        text = as_page(comparison, title=f"Captions of {where}", about=about)
        html.write_text(text, encoding="utf-8", errors="backslashreplace")
    if telling.json_:
        print_json(
            {
                "files": files,
                "sample": [str(item.path) for item in items],
                "html": str(html) if comparison.has_answers else None,
                "seconds": round(report.seconds, 3),
                "variants": as_json(comparison),
            }
        )
    elif comparison.has_answers:
        out.print(as_text(comparison))
    if comparison.has_answers:
        report.say(f"{len(items)} of {files:,} files in {span(report.seconds)}. As a page: {printable(html)}", "bold")
    return comparison.exit_code if code is None else code
