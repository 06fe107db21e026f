"""The server engine: an OpenAI-compatible server, on this machine or another."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from typing import Any

from ...config.group import parse_duration
from ...config.settings import Settings
from ...errors import ModelError, UsageError
from ...prompts.context import ContextEntry, entries_of_kind
from ...types import Kind, PatchBudget, Size
from .. import gemma4
from ..base import EngineSpec
from ..sound import plan_sound
from .client import Client, Endpoint
from .concurrency import MAX_LIMIT
from .continuing import continuation_fields
from .hearing import sound_form
from .media_encoding import MIME
from .payload import FRAMES_MARKER, RequestTemplate, SoundForm
from .server_info import describe_server, listed_context, native_context
from .server_process import ServerProcess, render_command
from .session import ServerSession, max_in_flight
from .system_turn import prints_list

VLLM_COMMAND = "vllm serve {model} --host 127.0.0.1 --port {port}"
_STARTUP_TIMEOUT = "30m"  # a server that we start may download its model first
_POLL_INTERVAL_S = 0.5
_DEFAULT_CONTEXT_LENGTH = 131072  # if the server does not report it
_GEMMA4 = re.compile(r"gemma[-_ ]?4", re.IGNORECASE)
_GEMMA3N = re.compile(r"gemma[-_ ]?3n", re.IGNORECASE)
_TAKES_NO_SOUND = re.compile(r"gemma[-_ ]?(3(?!n)|4[-_ ]?(26|31)b)", re.IGNORECASE)  # Gemma's sizes without hearing
_MAX_AUDIO_S = 30.0
_JPEG_SCALE = 2.0  # servers resize images as the model requires; larger files cost more to send than to shrink
_MAX_TEMPERATURE = 2.0  # in the OpenAI protocol
_SOFT_TOKENS, _MARKERS = 256, 8


class ServerEngine:
    def __init__(
        self,
        settings: Settings,
        log: Callable[[str], None] = lambda line: None,
        context: Sequence[ContextEntry] = (),
    ) -> None:
        server = settings.server
        if settings.model.engine == "vllm" and server.serve is None:
            server = server.model_copy(update={"serve": VLLM_COMMAND})
        if any(prompt.count(FRAMES_MARKER) > 1 for prompts in settings.prompts.values() for prompt in prompts):
            raise UsageError(f"the prompt contains {FRAMES_MARKER} more than once: keep one, for all frames")
        if settings.model.adapter is not None:
            raise UsageError(
                "--adapter requires --engine local. Load it in the server (vLLM: --lora-modules) and use it as --model"
            )
        if settings.generation.temperature > _MAX_TEMPERATURE:
            raise UsageError(
                f"--temperature {settings.generation.temperature:g}: servers accept up to {_MAX_TEMPERATURE:g}; "
                "use that or less, or --engine local"
            )
        self._settings, self._server, self._log, self._context_entries = settings, server, log, context
        self.endpoint = Endpoint.of(server)
        self.client = Client(self.endpoint)
        if server.serve is not None:
            if "{model}" not in server.serve and not settings.has_explicit_model:
                raise UsageError("--serve without {model} requires --model: the server's name for the model")
            if "{port}" not in server.serve and server.base_url is None:
                raise UsageError(
                    "--serve requires {port} in its command, or --base-url: the URL where the server will answer"
                )

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models of a running server. Waits for it if --wait-for-server is set. Raises `ServerError`."""
        return [] if isinstance(self._models_or_reason, str) else self._models_or_reason

    @cached_property
    def _models_or_reason(self) -> list[dict[str, Any]] | str:
        deadline = time.monotonic() + parse_duration(self._server.wait_for_server or "0s")
        while time.monotonic() < deadline and not self.client.is_up():
            time.sleep(_POLL_INTERVAL_S)
        waits = self._server.wait_for_server is not None
        return self.client.models("" if waits else ". To wait for it, use --wait-for-server 10m")

    @cached_property
    def model(self) -> str:
        """The server's name for the model. Raises `ModelError` if --model is missing and the server has several."""
        if self._settings.has_explicit_model or self._server.serve is not None:
            return self._settings.model.model
        names = [str(model["id"]) for model in self.models]
        if len(names) == 1:
            return names[0]
        if names:
            raise ModelError(
                f"{self.endpoint.url} has several models. Choose one with --model: {', '.join(names[:20])}"
            )
        reason = f"{self.endpoint.url} does not list its models ({self._models_or_reason})"
        raise ModelError(f"{reason}: pass --model, or check --base-url")

    @cached_property
    def spec(self) -> EngineSpec:
        size = self._size()
        tokens = (size.tokens if isinstance(size, PatchBudget) else _SOFT_TOKENS) + _MARKERS
        concurrency = self._server.concurrency
        sends_files = self._server.image_format == "jpeg" and not self._settings.decoding.exact_pixels
        return EngineSpec(
            size=size,
            tokens_per_frame={"image": tokens, "clip": tokens},
            context_length=self.context or _DEFAULT_CONTEXT_LENGTH,
            model=self.model,
            revision=self.endpoint.url,
            preferred_batch_size=max_in_flight(MAX_LIMIT if concurrency == "auto" else concurrency),
            max_audio_s=0.0 if _TAKES_NO_SOUND.search(self.model) else _MAX_AUDIO_S,
            audio_tokens_per_second=gemma4.AUDIO_TOKENS_PER_SECOND if _GEMMA4.search(self.model) else 0,
            jpeg_scale=(_JPEG_SCALE if self._server.image_size is None else 1.0) if sends_files else 0.0,
        )

    def _size(self) -> Size:
        """The size to which the model resizes frames. Sending this size loses nothing and keeps requests small."""
        if (side := self._server.image_size) is not None:
            return side, side
        if _GEMMA4.search(self.model):
            tokens = (
                self._settings.model.image_tokens or gemma4.TOKENS["image"]
            )  # the server treats each frame as an image
            return PatchBudget(tokens, gemma4.UNIT, resized_again=True)
        return (768, 768) if _GEMMA3N.search(self.model) else (896, 896)

    @property
    def context(self) -> int | None:
        """The context length in tokens, if a running server reports it."""
        if self._server.serve is not None:
            return None
        listed = [listed_context(model) for model in self.models if model["id"] == self.model]
        return next(filter(None, listed), None) or native_context(self.client, self.model)

    def server(self) -> str | None:
        """The name and version of a running server, if it is a known one."""
        return describe_server(self.client)

    def describe(self) -> str:
        return f"{self.model} at {self.endpoint.url}"

    def prompt_tokens(self, prompt: str, kind: Kind, num_frames: int) -> int:
        # There is no local tokenizer. Almost every text has at least two bytes per token.
        prompting, shown = self._settings.prompting, entries_of_kind(self._context_entries, kind)
        texts = [prompting.system, prompting.begin, prompt]
        texts += [text for entry in shown for text in ((prompt, entry.answer) if entry.answer else (entry.text,))]
        text_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
        tokens = num_frames * self.spec.tokens_per_frame[kind]
        tokens += sum(self._settings.frames(e.kind) * self.spec.tokens_per_frame[e.kind] for e in shown if e.kind)
        tokens += plan_sound(self._settings, self.spec).tokens * [kind, *(e.kind for e in shown)].count("clip")
        return text_bytes // 2 + 32 * (1 + len(shown)) + tokens

    def open(self) -> ServerSession:
        server_process = None
        with ExitStack() as on_error:  # including Ctrl-C and SIGTERM
            if self._server.serve is None:
                _ = self.models  # fails if the server does not answer or refuses the key
            else:
                command = render_command(self._server.serve, model=self.model, port=self.endpoint.port)
                secrets = (self.endpoint.key,) if self.endpoint.key else ()
                server_process = on_error.enter_context(closing(ServerProcess(command, secrets=secrets, log=self._log)))
                self._log(f"waiting until this server answers: {server_process.display_command}")
                server_process.wait_until_ready(
                    self.client.is_up, parse_duration(self._server.wait_for_server or _STARTUP_TIMEOUT)
                )
            session = ServerSession(Client(self.endpoint), self._template(), self._server, self._log, server_process)
            on_error.pop_all()
        return session

    def _template(self) -> RequestTemplate:
        # Gemma 4 was trained on clips with a timestamp before each frame.
        time_format = "{}" if _GEMMA4.search(self.model) else "[{}]" if self._settings.sampling.timestamps else None
        prompting = self._settings.prompting
        continuing = (
            continuation_fields(self.client, self.model, self._server.request_timeout)
            if prompting.begin.strip()
            else {}
        )
        return RequestTemplate(
            self.model,
            MIME[self._server.image_format],
            prompting.order,
            prompting.system,
            time_format,
            continuing,
            self._sound_form(),
            self._has_system_turn(),
        )

    def _has_system_turn(self) -> bool:
        if not self._settings.prompting.system or not _GEMMA4.search(self.model):
            return True
        if not prints_list(self.client, self.model, self._server.request_timeout):
            return True
        self._log(
            "the server breaks the system message (its chat template takes no list of parts): it is sent at the "
            "beginning of the first prompt"
        )
        return False

    def _sound_form(self) -> SoundForm | None:
        """In which form sound is sent; None if it is not. Raises `ModelError` if --audio on is impossible."""
        if not plan_sound(self._settings, self.spec).max_s:
            return None
        form, reason = sound_form(self.client, self.model, self._server.request_timeout)
        if form is not None:
            self._log(f"the server takes sound as `{form}`")
        elif self._settings.sampling.audio == "on":
            raise ModelError(
                f"{self.endpoint.url} takes no sound ({reason}): serve a model that does, such as Gemma 4 E2B, E4B or "
                "12B, or omit --audio on"
            )
        else:
            self._log(f"the server takes no sound ({reason}): clips are captioned without it, flagged `no_audio`")
        return form
