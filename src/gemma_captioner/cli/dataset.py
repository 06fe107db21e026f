"""The commands for a dataset, before and after captioning: `split`, `restore`."""

from collections import Counter
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import ItemError, UsageError
from ..split.settings import SplitSettings
from ..storage.filesystem import parse_path
from ..text import printable
from .options import LocalPathOption, Options, with_options
from .shell import app, err, out


@app.command
@with_options(Options(SplitSettings))
def split(
    videos: Annotated[list[LocalPathOption], Parameter(help="Long videos.")],
    /,
    *,
    output: Annotated[LocalPathOption, Parameter(help="The folder for the clips: what `caption` reads next.")],
    **flags: Any,
) -> int:
    """Cut long videos into clips at scene cuts.

    A clip that begins and ends at keyframes is copied, any other encoded anew, visually lossless; sound is left out.
    The cuts and a contact sheet are put under `.gemma-captioner/split/` in the output folder. Goes on where it was
    interrupted.
    """
    from ..split.scenes import split as cut

    cutting = SplitSettings.from_dict(flags)
    twice = [stem for stem, times in Counter(video.stem for video in videos).items() if times > 1]
    if twice:
        raise UsageError(f"several videos are called {twice[0]!r}, so their clips would mix: split them one by one")
    failed = 0
    for video in videos:
        count = 0
        try:
            for clip in cut(video, output, cutting):
                count += 1
                err.print(printable(clip), markup=False, soft_wrap=True)
        except ItemError as error:
            failed += 1
            err.print(f"failed: {printable(video)}: {error}", markup=False, style="red", soft_wrap=True)
        else:
            out.print(f"{printable(video)}: {count} clips", markup=False)
    return 3 if failed else 0


@app.command
def restore(
    run: Annotated[str, Parameter(help="The run, as `.gemma-captioner/runs/` and a run's summary call it.")],
    folder: Annotated[str, Parameter(help="The folder that was captioned, or --output.")] = ".",
    /,
) -> int:
    """Bring back the captions that a run overwrote. Those edited since stay as they are."""
    from ..dataset.journal import restore as restored

    counts = {True: 0, False: 0}
    for path, done in restored(parse_path(folder).absolute(), run):
        counts[done] += 1
        if not done:
            err.print(f"left alone, edited since: {printable(path)}", markup=False)
    out.print(f"{counts[True]} captions brought back, {counts[False]} left alone")
    return 0
