"""Imports everything that the demo model needs, before a process forks."""

from transformers import AutoModelForImageTextToText

from gemma_captioner.config.settings import Settings
from gemma_captioner.demo import samples  # noqa: F401
from gemma_captioner.engines.local.engine import LocalEngine

assert AutoModelForImageTextToText
_ = LocalEngine(Settings.from_dict({"model": "demo"})).spec
