"""The engine for any server with an OpenAI-compatible API."""

from .engine import ServerEngine

__all__ = ["ServerEngine"]
