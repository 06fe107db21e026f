"""Reads a checkpoint's tokenizer, chat template and image settings without transformers, which takes seconds to import.

The tokenizer file is the one that transformers reads, and the template gets the same environment and values. Tests
compare token ids, texts and settings with those of transformers' own classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...errors import ModelError

_SPECIAL = {
    f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")
}  # the defaults of Gemma; the checkpoint's files override them

_AUDIO_TOKENS, _SAMPLES_PER_AUDIO_TOKEN = 750, 640  # 30 s in tokens of 40 ms. Source: the processors of Gemma 4


class Tokenizer:
    """The checkpoint's tokenizer. Special tokens are attributes: `bos_token`, `image_token` and so on."""

    def __init__(self, folder: Path) -> None:
        """Read the names of the special tokens. The vocabulary, which is large, is read when it is first needed."""
        self._file = folder / "tokenizer.json"
        if not self._file.is_file():
            raise ModelError(f"{folder} has no tokenizer.json: save the tokenizer with transformers 5, or download it")
        config = _read(folder / "tokenizer_config.json")
        named = config.get("extra_special_tokens")
        values = _SPECIAL | (named if isinstance(named, dict) else {}) | config
        self.special_tokens = {
            name: str(value["content"] if isinstance(value, dict) else value)
            for name, value in values.items()
            if name.endswith("_token") and isinstance(value, (str, dict))
        }

    def __getattr__(self, name: str) -> Any:
        special: dict[str, str] = self.__dict__.get("special_tokens", {})
        if name in special:
            return special[name]
        if name.removesuffix("_id") in special:
            return self.token_id(special[name.removesuffix("_id")])
        raise AttributeError(name)

    @cached_property
    def _backend(self) -> Any:
        import tokenizers

        try:
            backend = tokenizers.Tokenizer.from_file(str(self._file))
        except Exception as error:  # tokenizers has no class of its own for it
            raise ModelError(f"cannot read {self._file} ({error}): download it again") from error
        backend.no_truncation()
        backend.no_padding()
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_special_tokens([token for token in self.special_tokens.values() if token not in known])
        return backend

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids. add_special_tokens: add what the file says, which is BOS at the beginning."""
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return str(self._backend.decode(ids, skip_special_tokens=skip_special_tokens))

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; that of `unk_token` if there is none."""
        number: int | None = self._backend.token_to_id(token)
        if number is None:
            number = self._backend.token_to_id(self.unk_token)
        return number

    def pieces(self, count: int) -> list[str]:
        """Return the text of each of the first `count` tokens."""
        return list(self._backend.decode_batch([[number] for number in range(count)], skip_special_tokens=False))

    @property
    def special_ids(self) -> set[int]:
        return {number for number, token in self._backend.get_added_tokens_decoder().items() if token.special}


@dataclass(slots=True)
class Processor:
    """What turns messages and frames into the model's inputs.

    Attributes:
        images: The settings of the image processor, in pixels and in its own names.
        tokens_per_image: The soft tokens of each image, for a model whose images are all of one size.
        chat_template: The template's source. None for a base model.
        audio: The settings of the audio feature extractor, in its own names.
        max_audio_samples: The longest sound that the model takes.
    """

    tokenizer: Tokenizer
    images: SimpleNamespace
    tokens_per_image: int
    chat_template: str | None
    audio: Mapping[str, Any] = field(default_factory=dict)
    max_audio_samples: int = 0
    _compiled: dict[str, Any] = field(default_factory=dict)

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """Render messages as the text that is tokenized, ending where the model's answer begins."""
        assert self.chat_template is not None
        template = self._compiled.get(self.chat_template)
        if template is None:
            template = self._compiled[self.chat_template] = _compile(self.chat_template)
        values = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
        return str(template.render(**values, **self.tokenizer.special_tokens | options))


def load_processor(folder: Path, image_defaults: dict[str, Any], templates: Sequence[str]) -> Processor:
    """Read the files of a checkpoint, except the vocabulary.

    Args:
        image_defaults: The settings of the family's image processor that files may leave out.
        templates: The files that may hold the chat template, the first that does so first.
    """
    processor = _read(folder / "processor_config.json")
    images = processor.get("image_processor") or _read(folder / "preprocessor_config.json")
    return Processor(
        Tokenizer(folder),
        SimpleNamespace(**image_defaults | {name: value for name, value in images.items() if value is not None}),
        processor.get("image_seq_length") or 256,
        next((text for file in templates if (text := _template(folder / file)) is not None), None),
        processor.get("feature_extractor") or processor.get("audio_processor") or {},
        (processor.get("audio_seq_length") or _AUDIO_TOKENS) * _SAMPLES_PER_AUDIO_TOKEN,
    )


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _template(path: Path) -> str | None:
    if path.suffix == ".jinja":
        return path.read_text(encoding="utf-8") if path.is_file() else None
    template = _read(path).get("chat_template")
    if isinstance(template, list):  # several, by name
        template = {named["name"]: named["template"] for named in template}.get("default")
    return template


def _compile(source: str) -> Any:
    """Compile a template as transformers does. It comes from the hub, so it runs in a sandbox."""
    from jinja2 import ext, nodes, sandbox, utils
    from jinja2.exceptions import SecurityError, TemplateError

    class Generation(ext.Extension):
        """`{% generation %}` marks answers for training. Here it renders what it holds."""

        tags = {"generation"}  # noqa: RUF012  # jinja declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def namespace(*values: Any, **named: Any) -> Any:
        attributes = dict(*values, **named)
        if any(name.startswith("_") for name in attributes):
            raise SecurityError("the chat template sets a name that begins with an underscore")
        return utils.Namespace(attributes)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, **options: Any) -> str:  # jinja's own escapes HTML
        return json.dumps(value, **{"ensure_ascii": False, **options})

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda format: datetime.now().strftime(format),
        "namespace": namespace,
        "dict": lambda *values, **named: dict(*values, **named),
    }
    return environment.from_string(source)
