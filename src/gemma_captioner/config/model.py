"""Settings of the model, its engine and the server."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_serializer, field_validator

from ..redaction import redact_credentials
from .group import Duration, SettingsGroup

Quantize = Literal["auto", "none", "8bit", "4bit"]

AUTO = "auto"
DEFAULT_MODEL = "unsloth/gemma-3-12b-it"  # what `auto` prefers
SMALLER_MODEL = "unsloth/gemma-3-4b-it"  # what it falls back to


class ModelSettings(SettingsGroup):
    """Which model, and how it runs."""

    model: str = Field(
        AUTO,
        min_length=1,
        description="The model: a Hugging Face id, a local folder, or `demo`. auto: the first that fits in memory of "
        "Gemma 3 12B in 16, 8 and 4 bits, then 4B.",
    )
    engine: Literal["local", "server", "vllm", "scripted"] = Field(
        "local",
        description="What runs the model. local: transformers on this machine. server: an OpenAI-compatible "
        "server at --base-url. vllm: a vLLM server that the run starts. scripted: replies from the "
        "JSON file that --model names, for tests.",
    )
    quantize: Quantize = Field(
        "auto",
        description="Load 8-bit or 4-bit weights; none: 16-bit. auto: the highest precision that fits in memory.",
    )
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="The number format. auto: bf16 on a GPU or on a CPU that is fast in it, else fp32.",
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="Run the model on this device. auto: the best that is available."
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Caption this many files at once. auto: as many as fit in memory."
    )
    image_tokens: int | None = Field(
        None,
        description="Gemma 4: use this many tokens for each frame: 70, 140, 280, 560 or 1120. [default: 280 for "
        "an image, 70 for a frame of a clip]",
    )

    @field_validator("image_tokens")
    @classmethod
    def _check_image_tokens(cls, value: int | None) -> int | None:
        if value not in (None, 70, 140, 280, 560, 1120):
            raise ValueError("give 70, 140, 280, 560 or 1120")
        return value

    hf_token: str | None = Field(
        None,
        repr=False,
        description="The Hugging Face token for gated models. [default: the variable HF_TOKEN, else `hf auth login`]",
    )
    adapter: str | None = Field(
        None, min_length=1, description="A PEFT LoRA to merge into the model: a Hugging Face id or a folder."
    )


class ServerAddress(SettingsGroup):
    """The address of a server, its API key and the size of the images that it receives."""

    base_url: str | None = Field(
        None,
        repr=False,
        description="The address of the server, for example http://localhost:8000/v1. Implies --engine server.",
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="The environment variable that holds the server's API key.")
    image_size: int | None = Field(
        None,
        ge=16,
        description="Send frames as squares with sides of this many pixels. [default: the model's input size, "
        "896 for Gemma 3]",
    )

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/]", value):
            raise ValueError("write the address with http:// or https:// in front")
        try:
            _ = urlsplit(value or "").port
        except ValueError:  # whose text could be a password
            raise ValueError("the port in this address is not a number up to 65535, or a bracket is missing") from None
        return value


class ServerSettings(ServerAddress):
    """How requests are sent to a server (--engine server or vllm)."""

    image_format: Literal["jpeg", "png"] = Field(
        "jpeg", description="Send frames as JPEG, or as PNG, which is larger and exact."
    )
    jpeg_quality: int = Field(92, ge=1, le=100, description="The quality of frames sent as JPEG.")
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Send this many requests at once. auto: adapts to the server."
    )
    request_timeout: float = Field(600.0, gt=0, description="A request that takes longer than this is sent again.")
    item_timeout: float = Field(
        1800.0, gt=0, description="A file fails if it has no answer after this time, all retries included."
    )
    shrink: bool = Field(
        False, description="If the server refuses a clip as too large, send half of its frames and flag the caption."
    )
    wait_for_server: Duration | None = Field(
        None,
        description="Wait this long for a server that does not answer, for example 10m. [default: 10m for a "
        "server that has answered before, 30m with --serve]",
    )
    serve: str | None = Field(
        None,
        description="Start the server with this command and stop it after the run. {model} and {port} are filled "
        "in. [default with --engine vllm: vllm serve {model} --host 127.0.0.1 --port {port}]",
    )

    @field_serializer("base_url", "serve", when_used="json")  # as the journal has them
    def _redact_credentials(self, value: str | None) -> str | None:
        return None if value is None else redact_credentials(value)
