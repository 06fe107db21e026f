"""Imports what the demo model imports at its first use, for a process that is forked afterwards."""

from transformers import AutoModelForImageTextToText

from gemma_captioner.config.settings import Settings
from gemma_captioner.demo import samples  # noqa: F401
from gemma_captioner.engines.local.engine import LocalEngine

assert AutoModelForImageTextToText
_ = LocalEngine(Settings.from_dict({"model": "demo"})).spec
