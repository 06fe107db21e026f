"""A deterministic engine without a model, for tests, trial runs and benchmarks of the rest of the pipeline.

Use it as `--engine scripted --model SCRIPT.json`. The script is one JSON object; every key is optional:

    {"default": "A scripted caption of {name}.",     {name}, {stem}, {num_frames}, {audio_s}, {prompt} and {labels} are
                                                      replaced
     "delay_s": 0.0,                                  the duration of each batch
     "batch_size": 8,
     "size": [64, 64],
     "max_audio_s": 0.0,                              30.0: takes the sound of clips
     "replies": {"a.png": "A caption for a.png.",        by file name; an object can set more:
                 "b.png": {"text": "Cut off", "finish_reason": "length"},
                 "c.png": {"error": "refused"},
                 "d.png": {"kills": true}}}        kills the engine's process, as the out-of-memory killer does
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ModelError
from ..text import file_error, parse_json
from ..types import Failed, FinishReason, Kind, Reply, Request
from .base import EngineSpec, Session, prepend_begin


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
    max_audio_s: float = Field(0.0, ge=0)
    replies: dict[str, ScriptedReply | str | list[ScriptedReply | str]] = {}  # a list holds one reply per attempt


class ScriptedEngine:
    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.spec = EngineSpec(
            self.script.size,
            {"image": 20, "clip": 20},
            131072,
            model="scripted",
            revision=None,
            max_audio_s=self.script.max_audio_s,
            audio_tokens_per_second=25 if self.script.max_audio_s else 0,
        )

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Raises `ModelError` if the file is missing or is not a valid script."""
        try:
            return cls(Script.model_validate(parse_json(Path(path).read_text(encoding="utf-8"))))
        except OSError as error:
            raise ModelError(
                f"the script {path} cannot be read ({file_error(error)}): give its path as --model"
            ) from error
        except ValidationError as error:
            fault = error.errors()[0]
            kind = "an unknown key" if fault["type"] == "extra_forbidden" else "a wrong value"
            place = ".".join(map(str, fault["loc"][:2])) or "the top level"
            raise ModelError(f"the script {path} has {kind}, {place}: correct it") from error
        except ValueError as error:
            raise ModelError(f"the script {path} is not valid JSON: correct it") from error

    def describe(self) -> str:
        return "scripted replies, no model"

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        return len(prompt.split()) + num_frames * self.spec.tokens_per_frame[kind]

    def open(self) -> "ScriptedSession":
        return ScriptedSession(self.script)


class ScriptedSession(Session):
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
            "audio_s": 0 if request.frames.audio is None else request.frames.audio.duration_s,
            "prompt": request.prompt,
            "labels": " ".join([*(part.text for part in request.context if part.answer is None), request.label]),
        }
        text = reply.text
        for key, value in facts.items():
            text = text.replace(f"{{{key}}}", str(value))
        seconds = time.monotonic() - submitted_at
        text = prepend_begin(request.begin, text)
        return Reply(request.id, text, reply.finish_reason, 0, len(text.split()), seconds)

    def close(self) -> None:
        self._pending.clear()
