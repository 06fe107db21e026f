"""A server that speaks the OpenAI protocol, on this machine or another: what is known of it, and opening a session."""

import re
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ...config.group import parse_duration
from ...config.settings import Settings
from ...errors import ModelError, UsageError
from ...types import Kind, PatchBudget, Size
from .. import gemma4
from ..base import EngineSpec
from .client import Address, Client
from .concurrency import MOST
from .continuing import way_to_continue
from .pictures import MIME
from .question import FRAMES_HERE, Form
from .serving import Served, filled_in
from .session import ServerSession, at_once

VLLM = "vllm serve {model} --host 127.0.0.1 --port {port}"
_LOADING = "30m"  # until a server that we start has to answer: it may download its model first
_LOOK_S = 0.5
_CONTEXT = 131072  # where the server does not say
_CONTEXT_NAMES = ("max_model_len", "context_length", "max_context_length", "context_window")  # in GET /models
_GEMMA4 = re.compile(r"gemma[-_ ]?4", re.IGNORECASE)
_GEMMA3N = re.compile(r"gemma[-_ ]?3n", re.IGNORECASE)
_SOFT_TOKENS, _MARKERS = 256, 8


class ServerEngine:
    def __init__(self, settings: Settings, tell: Callable[[str], None] = lambda line: None) -> None:
        server = settings.server
        if settings.model.engine == "vllm" and server.serve is None:
            server = server.model_copy(update={"serve": VLLM})
        if any(prompt.count(FRAMES_HERE) > 1 for prompts in settings.prompts.values() for prompt in prompts):
            raise UsageError(f"the prompt holds {FRAMES_HERE} more than once: all frames go to one place")
        if settings.model.adapter is not None:
            raise UsageError(
                "--adapter is for --engine local: have the server load it (vLLM: --lora-modules), and name it"
            )
        self._settings, self._server, self._tell = settings, server, tell
        self.address = Address.of(server)
        self.client = Client(self.address)
        if server.serve is not None:
            if "{model}" not in server.serve and not settings.model_is_named:
                raise UsageError("--serve without {model} wants --model: what the server calls its model")
            if "{port}" not in server.serve and server.base_url is None:
                raise UsageError("--serve wants {port} in its command, or --base-url: where the server will answer")

    @property
    def models(self) -> list[dict[str, Any]]:
        """What a server that runs already lists, waited for if that was asked for. Raises `ServerError`."""
        return [] if isinstance(self._listed, str) else self._listed

    @cached_property
    def _listed(self) -> list[dict[str, Any]] | str:
        deadline = time.monotonic() + parse_duration(self._server.wait_for_server or "0s")
        while time.monotonic() < deadline and not self.client.is_up():
            time.sleep(_LOOK_S)
        return self.client.models()

    @cached_property
    def model(self) -> str:
        """As the server calls it. Raises `ModelError` where it is not named, and not the only one."""
        if self._settings.model_is_named or self._server.serve is not None:
            return self._settings.model.model
        names = [str(model["id"]) for model in self.models]
        if len(names) == 1:
            return names[0]
        if names:
            raise ModelError(f"{self.address.url} has {', '.join(names[:20])}: choose with --model")
        why = f"{self.address.url} does not list its models ({self._listed})"
        raise ModelError(f"{why}: choose with --model, or check --base-url")

    @cached_property
    def spec(self) -> EngineSpec:
        size = self._size()
        tokens = (size.tokens if isinstance(size, PatchBudget) else _SOFT_TOKENS) + _MARKERS
        given = self._server.concurrency
        return EngineSpec(
            size=size,
            tokens={"image": tokens, "clip": tokens},
            context=self.context or _CONTEXT,
            model=self.model,
            revision=self.address.url,
            at_once=at_once(MOST if given == "auto" else given),
        )

    def _size(self) -> Size:
        """What the model would bring frames to by itself: sent in that size, nothing is lost and requests are small."""
        if (side := self._server.image_size) is not None:
            return side, side
        if _GEMMA4.search(self.model):
            tokens = self._settings.model.image_tokens or gemma4.TOKENS["image"]  # it takes each frame for an image
            return PatchBudget(tokens, gemma4.UNIT)
        return (768, 768) if _GEMMA3N.search(self.model) else (896, 896)

    @property
    def context(self) -> int | None:
        """In tokens, where a server that runs already tells it."""
        for model in self.models if self._server.serve is None else ():
            if model["id"] == self.model:
                told = [str(model.get(name)) for name in _CONTEXT_NAMES]
                return next((int(n) for n in told if n.isdecimal()), None)
        return None

    def describe(self) -> str:
        return f"{self.model} at {self.address.url}"

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        # No tokenizer is here; hardly any text has a token for less than two bytes.
        return len(prompt.encode("utf-8", "replace")) // 2 + 32 + num_frames * self.spec.tokens[kind]

    def open(self) -> ServerSession:
        served = None
        if self._server.serve is None:
            _ = self.models  # whether it answers, and takes the key
        else:
            served = Served(filled_in(self._server.serve, model=self.model, port=self.address.port))
        try:
            if served is not None:
                self._tell(f"waiting for {served.shown}")
                served.wait_until(self.client.is_up, parse_duration(self._server.wait_for_server or _LOADING))
            return ServerSession(Client(self.address), self._form(), self._server, self._tell, served)
        except BaseException:  # Ctrl-C and SIGTERM too
            if served is not None:
                served.close()
            raise

    def _form(self) -> Form:
        """Asks a server that is up how it goes on from an answer, where that is wanted."""
        # Gemma 4 was taught a clip as frames with their times.
        time_told = "{}" if _GEMMA4.search(self.model) else "[{}]" if self._settings.sampling.timestamps else None
        put = self._settings.prompting
        continuing = way_to_continue(self.client, self.model, self._server.request_timeout) if put.begin.strip() else {}
        return Form(self.model, MIME[self._server.image_format], put.order, put.system, time_told, continuing)
