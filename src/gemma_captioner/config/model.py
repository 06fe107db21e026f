"""Which model answers, how it runs, and how a server is asked."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_serializer, field_validator

from ..errors import redact_credentials
from .group import DURATION, SettingsGroup

Quantize = Literal["auto", "none", "8bit", "4bit"]

DEFAULT_MODEL = "unsloth/gemma-3-12b-it"


class ModelSettings(SettingsGroup):
    """Which model, and how it runs."""

    model: str = Field(DEFAULT_MODEL, min_length=1, description="A Hugging Face id, a local folder, or `demo`.")
    engine: Literal["local", "server", "vllm", "scripted"] = Field(
        "local",
        description="local: transformers, here. server: any that speaks the OpenAI protocol, at --base-url. vllm: a "
        "vLLM server, started for the run. scripted: no model, answers from the JSON file that --model names.",
    )
    quantize: Quantize = Field(
        "auto", description="Weights in 16, 8 or 4 bits. auto: the most exact that fits the memory, said aloud."
    )
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Arithmetic. auto: bf16 on an accelerator, fp32 on a CPU."
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="Where the model runs.")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Files captioned at once. auto: as many as fit."
    )
    image_tokens: int | None = Field(
        None,
        description="Gemma 4: tokens that a frame may take: 70, 140, 280, 560 or 1120. [default: 280 for an image, 70 "
        "for a frame of a clip]",
    )

    @field_validator("image_tokens")
    @classmethod
    def _check_image_tokens(cls, value: int | None) -> int | None:
        if value not in (None, 70, 140, 280, 560, 1120):
            raise ValueError("must be 70, 140, 280, 560 or 1120")
        return value

    hf_token: str | None = Field(
        None, repr=False, description="Hugging Face token. [default: HF_TOKEN, else `hf auth login`]"
    )
    adapter: str | None = Field(
        None, min_length=1, description="A LoRA that PEFT saved, a Hugging Face id or folder: merged into the model."
    )


class ServerAddress(SettingsGroup):
    """Where a server is, and how large it wants its images."""

    base_url: str | None = Field(None, repr=False, description="Where the server answers: http://localhost:8000/v1.")
    api_key_env: str = Field("OPENAI_API_KEY", description="The environment variable that holds its key, if any.")
    image_size: int | None = Field(
        None, ge=16, description="Frames are sent as squares of this side. [default: as the model, 896 for Gemma 3]"
    )

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/]", value):
            raise ValueError("begin it with http:// or https://")
        try:
            _ = urlsplit(value or "").port
        except ValueError:  # whose text could be a password
            raise ValueError("its port is no number") from None
        return value


class ServerSettings(ServerAddress):
    """With --engine server or vllm: how it is asked."""

    image_format: Literal["jpeg", "png"] = Field("jpeg", description="How frames are sent. png: every pixel as it is.")
    jpeg_quality: int = Field(92, ge=1, le=100, description="Of frames sent as JPEG.")
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Requests under way at once. auto: more while that makes it faster, fewer when it objects."
    )
    request_timeout: float = Field(600.0, gt=0, description="Seconds until an answer is given up and asked for again.")
    item_timeout: float = Field(1800.0, gt=0, description="Seconds of asking again until a file fails.")
    shrink: bool = Field(
        False, description="Send half of a clip's frames, flagged, where the server refuses all as too much."
    )
    wait_for_server: str | None = Field(
        None,
        pattern=DURATION,
        description="Wait so long for a server that does not answer. [default: 10m for one that did, 30m for --serve]",
    )
    serve: str | None = Field(
        None,
        description="Start the server with this command and end it with the run; {model} and {port} are filled in. "
        "[default with --engine vllm: vllm serve {model} --host 127.0.0.1 --port {port}]",
    )

    @field_serializer("base_url", "serve", when_used="json")  # as the journal has them
    def _redact_credentials(self, value: str | None) -> str | None:
        return None if value is None else redact_credentials(value)
