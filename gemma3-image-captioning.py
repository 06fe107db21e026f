"""Caption a folder of images with Gemma 3: edit the settings, or give them as flags.

python gemma3-image-captioning.py --image_folder images/
"""

import sys
from pathlib import Path

# Run from a checkout: the package lies beside this script.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from gemma_captioner.cli.one_shot import run_one_shot

# Settings
MODEL_ID = "unsloth/gemma-3-27b-pt"
CAPTION_PROMPT = "Provide a short, single-line description of this image for training data."
MAX_NEW_TOKENS = 256

if __name__ == "__main__":
    sys.exit(
        run_one_shot(
            kind="image",
            folder_flags=["--image_folder"],
            model_id=MODEL_ID,
            prompt=CAPTION_PROMPT,
            max_new_tokens=MAX_NEW_TOKENS,
        )
    )
