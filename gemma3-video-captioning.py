"""Caption a folder of clips with Gemma 3: edit the settings, or give them as flags.

python gemma3-video-captioning.py --videos_folder clips/
"""

import sys
from pathlib import Path

# Run from a checkout: the package lies beside this script.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from gemma_captioner.cli.one_shot import run_one_shot

# Settings
MODEL_ID = "unsloth/gemma-3-12b-it"
CAPTION_PROMPT = (
    "Provide a detailed, thorough caption of movement you see in the video. Only describe movement as this will be "
    "very important during the training process."
)
NUM_FRAMES = 12
MAX_NEW_TOKENS = 100

if __name__ == "__main__":
    sys.exit(
        run_one_shot(
            kind="clip",
            folder_flags=["--videos_folder", "--video_folder"],
            model_id=MODEL_ID,
            prompt=CAPTION_PROMPT,
            max_new_tokens=MAX_NEW_TOKENS,
            num_frames=NUM_FRAMES,
        )
    )
