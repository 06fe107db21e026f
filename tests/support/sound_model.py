"""The checkpoint of tests/data/sound: `python -m tools.train_sound_model` made it (docs/decisions.md)."""

from pathlib import Path

SOUND_CHECKPOINT = Path(__file__).parents[1] / "data" / "sound"
