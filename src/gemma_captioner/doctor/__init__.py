"""`gemma-captioner doctor`: what is here, or on a server, and what that means for captioning."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Diagnostic:
    state: Literal["good", "note", "bad"]
    what: str
    meaning: str
