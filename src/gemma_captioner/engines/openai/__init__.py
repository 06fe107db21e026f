"""The engine for any server that speaks the OpenAI protocol."""

from .engine import ServerEngine

__all__ = ["ServerEngine"]
