"""`gemma-captioner doctor`: checks this machine, or a server, and says what that means for captioning."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Diagnostic:
    state: Literal["good", "note", "bad"]
    what: str
    meaning: str
