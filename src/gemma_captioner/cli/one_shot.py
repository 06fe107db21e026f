"""What the two one-shot scripts share: the original's flags, over the same pipeline as the command.

They differ from the original where it was wrong: a second run resumes (`--overwrite` for the old way), no error is
ever written into a `.txt`, EXIF rotation is applied, and the exit code reports failures.
"""

import argparse
import sys
from pathlib import Path

from ..config.settings import Settings
from ..dataset.discover import EXTENSIONS
from ..errors import CaptionerError
from ..types import Kind
from .caption import OutputOptions, run_caption


def run_one_shot(
    *,
    kind: Kind,
    folder_flags: list[str],
    model_id: str,
    prompt: str,
    max_new_tokens: int,
    num_frames: int | None = None,
    argv: list[str] | None = None,
) -> int:
    """Parse the original's flags and caption the files of one kind in a folder. Returns the exit code."""
    what = {"image": "images", "clip": "clips"}[kind]
    parser = argparse.ArgumentParser(
        description=f"Caption a folder of {what} with Gemma 3. Running it again resumes an interrupted run."
    )
    parser.add_argument(*folder_flags, dest="folder", type=Path, required=True, help=f"the folder of {what}")
    parser.add_argument("--output_folder", type=Path, help="write the captions here (default: beside the media)")
    parser.add_argument("--model_id", default=model_id, help="Hugging Face id, folder, or demo (default: %(default)s)")
    parser.add_argument("--prompt", default=prompt, help="the prompt (default: %(default)s)")
    if num_frames is not None:
        parser.add_argument("--num_frames", type=int, default=num_frames, help="frames per clip (default: %(default)s)")
    parser.add_argument(
        "--max_new_tokens", type=int, default=max_new_tokens, help="maximum tokens of a caption (default: %(default)s)"
    )
    parser.add_argument("--hf_token", help="Hugging Face token (default: HF_TOKEN, else `hf auth login`)")
    parser.add_argument("--quantize", action="store_true", help="load the model in 8 bits")
    parser.add_argument("--overwrite", action="store_true", help="replace existing captions")
    given = parser.parse_args(argv)
    try:
        settings = Settings.from_dict(
            {
                "model": given.model_id,
                "prompt": given.prompt.replace("{", "{{").replace("}", "}}"),  # literally, as in the original
                "output": given.output_folder,
                "max_new_tokens": given.max_new_tokens,
                "hf_token": given.hf_token,
                "quantize": "8bit" if given.quantize else "auto",
                "existing": "overwrite" if given.overwrite else "skip",
                "order": "text-first",
                "sampling": "index",
                "include": tuple(f"*.{suffix}" for suffix, of in EXTENSIONS.items() if of == kind),
            },
            {} if num_frames is None else {"frames": given.num_frames},
        )
    except CaptionerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return run_caption([given.folder], settings, OutputOptions())
