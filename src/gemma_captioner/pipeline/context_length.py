"""Whether the references and sources of a run fit in the context of the model, and what they cost."""

from ..config.settings import Settings
from ..engines import Engine
from ..errors import StartError
from ..prompts.context import Context, entries_of_kind
from ..text import counted
from ..types import Kind


def check_context_length(context: Context, engine: Engine, settings: Settings, kind: Kind) -> None:
    """Raise `StartError` if a request with the references and sources may not fit in the context of the model."""
    num_images = _num_images(context, kind)
    if not num_images:
        return
    tokens = settings.max_new_tokens(kind) + max(
        engine.prompt_tokens(prompt, kind, settings.frames(kind)) + settings.previous_tokens(prompt, kind)
        for prompt in settings.prompts[kind]
    )
    if tokens > engine.spec.context_length:
        raise StartError(
            f"with {counted(num_images, 'reference or source file')} before each {kind}, a request "
            f"has up to {tokens:,} tokens with the answer, but the context has {engine.spec.context_length:,}: use "
            "fewer of them, or give the model a larger context"
        )


def describe_references(context: Context, engine: Engine) -> str | None:
    """Describe the references and their tokens. None without any.

    # 2 references (Mara, lighthouse): 3 images before each file, about 840 tokens
    """
    if not context.names:
        return None
    images = [entry for entry in context.entries if entry.item and entry.answer is None]
    tokens = len(images) * engine.spec.tokens_per_frame["image"]
    return (
        f"{counted(len(context.names), 'reference')} ({', '.join(context.names)}): "
        f"{counted(len(images), 'image')} before each file, about {tokens:,} tokens"
    )


def _num_images(context: Context, kind: Kind) -> int:
    return sum(1 for entry in entries_of_kind(context.planned, kind) if entry.item and entry.answer is None)
