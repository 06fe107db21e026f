"""How trainers find the source images of edits. Read at the commits that targets.toml names."""

from collections.abc import Mapping
from typing import Literal

# Read one source for a file. Others read several.
_ONE_SOURCE = ("diffusion-pipe", "huggingface", "musubi:flux-kontext")
# Look for the stem of the file or its whole name, not for numbered names. musubi-tuner looks for both.
FINDS_BY: Mapping[str, Literal["stem", "name"]] = {
    "diffusion-pipe": "stem",  # utils/dataset.py:634
    "ai-toolkit": "stem",  # toolkit/dataloader_mixins.py:1099
    "simpletuner": "name",  # helpers/multiaspect/sampler.py:749
}
# Find no sources of files in subfolders.
NOT_IN_SUBFOLDERS = ("simpletuner",)  # helpers/multiaspect/sampler.py:749


def reads_one_source(trainer: str, target: str) -> bool:
    """# diffusion-pipe, diffusion-pipe:flux2 -> yes      musubi, musubi:flux2 -> no"""
    return trainer in _ONE_SOURCE or target in _ONE_SOURCE
