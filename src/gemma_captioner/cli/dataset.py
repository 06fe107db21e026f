"""The commands `split` (before captioning) and `restore` (after it)."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..dataset.discover import is_clip
from ..dataset.listing import natural_sort_key
from ..dataset.sidecar import DOT_FOLDER
from ..errors import ItemError, UsageError
from ..split.settings import SplitSettings
from ..storage.filesystem import parse_path
from ..text import counted, printable
from .help import examples
from .options import LocalPathOption, Options, with_options
from .shell import app, err, out
from .targets import warn_if_unlisted


@app.command(help_epilogue=examples("split"))
@with_options(Options(SplitSettings))
def split(
    videos: Annotated[list[LocalPathOption], Parameter(help="The videos to cut, or folders of them.")],
    /,
    *,
    output: Annotated[LocalPathOption, Parameter(help="Write the clips into this folder.")],
    **flags: Any,
) -> int:
    """Cut long videos into clips at scene cuts.

    With --for, cuts clips that the trainer keeps whole, so that each gets a caption of exactly what is trained on.
    Copies clips that begin and end at keyframes and re-encodes the others as H.264 at CRF 14. Drops the sound.
    Writes the cut list and a contact sheet to `.gemma-captioner/split/` in the output folder. Running the same command
    again resumes an interrupted run.
    """
    from ..split.scenes import split as cut

    cutting = SplitSettings.from_dict(flags)
    warn_if_unlisted(cutting.for_)
    videos = [video for path in videos for video in _videos_in(path, output)]
    twice = [stem for stem, times in Counter(video.stem for video in videos).items() if times > 1]
    if twice:
        raise UsageError(
            f"several videos are named {twice[0]!r}, so their clips would have the same names: split them one by one"
        )
    failed = 0
    for video in videos:
        count = 0
        try:
            for clip in cut(video, output, cutting):
                count += 1
                err.print(printable(clip), soft_wrap=True)
        except ItemError as error:
            failed += 1
            err.print(f"failed: {printable(video)}: {error}", style="red", soft_wrap=True)
        else:
            result = counted(count, "clip") if count else f"no clips, because {cutting.why_no_clip}"
            out.print(f"{printable(video)}: {result}")
    return 3 if failed else 0


def _videos_in(path: Path, output: Path) -> list[Path]:
    """The videos of a folder, in natural order; any other path is the caller's own."""
    if not path.is_dir():
        return [path]
    if output.exists() and output.samefile(path):
        raise UsageError(f"--output {output} is the folder of the videos: give another folder for the clips")
    names = sorted(
        (entry.name for entry in path.iterdir() if is_clip(entry.name) and entry.name[0] != "."), key=natural_sort_key
    )
    if not names:
        raise UsageError(f"{printable(path)} has no videos: give a folder that holds them, or the videos themselves")
    return [path / name for name in names]


@app.command(help_epilogue=examples("restore"), usage="Usage: gemma-captioner restore RUN [FOLDER]")
def restore(
    run: Annotated[
        str,
        Parameter(
            help="The run's name: a file in `.gemma-captioner/runs/`, without `.jsonl`. Or its path.",
            completer=lambda _: _runs_here(),
        ),
    ],
    folder: Annotated[str, Parameter(help="The folder that was captioned, or the `--output` of that run.")] = ".",
    /,
) -> int:
    """Restore the captions that a run overwrote, except those edited since.

    Also moves back what `review` moved to the trash. If a file was not restored, the exit code is 3.
    """
    from ..dataset.restore import Restored
    from ..dataset.restore import restore as restored

    files: dict[Path, Restored] = {}  # of several changes of one file, the last result counts
    try:
        for file in restored(parse_path(folder).absolute(), run):
            files[file.path] = file
    finally:
        counts = Counter((file.is_media, file.reason is None) for file in files.values())
        for file in files.values():
            if file.reason is not None:
                err.print(f"not restored: {printable(file.path)}: {printable(file.reason)}", soft_wrap=True)
        media = f" and {counted(counts[True, True], 'file')}" if counts[True, True] else ""
        failed = counts[True, False] + counts[False, False]
        if files:
            out.print(f"{counted(counts[False, True], 'caption')}{media} restored, {failed:,} not restored")
    return 3 if failed else 0


def _runs_here() -> list[str]:
    """For completion: the runs of the current folder."""
    return sorted(run.stem for run in Path(DOT_FOLDER, "runs").glob("*.jsonl"))
