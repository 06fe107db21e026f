"""A deterministic engine without a model: answers by rule. For tests, trials of a set-up, and measuring the rest.

As `--engine scripted --model SCRIPT.json`, the script being one object, every key optional:

    {"default": "A scripted caption of {name}.",     {name}, {stem}, {num_frames} and {prompt} are filled in
     "delay_s": 0.0,                                  how long each batch takes
     "batch_size": 8,
     "size": [64, 64],
     "replies": {"a.png": "Said of this one.",        by the item's name; an object sets more:
                 "b.png": {"text": "Cut of", "finish_reason": "length"},
                 "c.png": {"error": "refused"},
                 "d.png": {"kills": true}}}       as the out-of-memory killer would: the process that the engine is in
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ModelError
from ..types import Failed, FinishReason, Kind, Reply, Request
from .base import EngineSpec, begun


class ScriptedReply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    finish_reason: FinishReason = "stop"
    error: str | None = None
    kills: bool = False


class Script(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = "A scripted caption of {name}."
    delay_s: float = Field(0.0, ge=0)
    batch_size: int = Field(8, ge=1)
    size: tuple[int, int] = (64, 64)
    replies: dict[str, ScriptedReply | str | list[ScriptedReply | str]] = {}  # a list: one each time it is asked


class ScriptedEngine:
    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.spec = EngineSpec(self.script.size, {"image": 20, "clip": 20}, 131072, model="scripted", revision=None)

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Raises `ModelError` where the file is not there or no script."""
        try:
            return cls(Script.model_validate(json.loads(Path(path).read_text(encoding="utf-8"))))
        except (OSError, ValueError, ValidationError) as error:
            raise ModelError(f"--engine scripted wants a script, JSON, as --model: {path}: {error}") from error

    def describe(self) -> str:
        return "scripted answers, no model"

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        return len(prompt.split()) + num_frames * self.spec.tokens_per_frame[kind]

    def open(self) -> "ScriptedSession":
        return ScriptedSession(self.script)


class ScriptedSession:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._pending: list[tuple[Request, float]] = []
        self._call_counts: Counter[str] = Counter()

    @property
    def available_slots(self) -> int:
        return self._script.batch_size - len(self._pending)

    def submit(self, request: Request) -> None:
        self._pending.append((request, time.monotonic()))

    def poll(self, timeout_s: float) -> list[Reply | Failed]:
        time.sleep(self._script.delay_s if self._pending else timeout_s)
        batch, self._pending = self._pending, []
        return [self._reply_to(request, submitted_at) for request, submitted_at in batch]

    def _reply_to(self, request: Request, submitted_at: float) -> Reply | Failed:
        scripted = self._script.replies.get(request.item.name, self._script.default)
        if isinstance(scripted, list):
            scripted = scripted[min(self._call_counts[request.item.name], len(scripted) - 1)]
            self._call_counts[request.item.name] += 1
        reply = ScriptedReply(text=scripted) if isinstance(scripted, str) else scripted
        if reply.kills:
            psutil.Process().kill()
        if reply.error is not None:
            return Failed(request.item, reply.error, request.id)
        facts: dict[str, Any] = {
            "name": request.item.name,
            "stem": request.item.path.stem,
            "num_frames": len(request.frames.times_s),
            "prompt": request.prompt,
        }
        text = reply.text
        for key, value in facts.items():
            text = text.replace(f"{{{key}}}", str(value))
        seconds = time.monotonic() - submitted_at
        text = begun(request.begin, text)
        return Reply(request.id, text, reply.finish_reason, 0, len(text.split()), seconds)

    def close(self) -> None:
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
