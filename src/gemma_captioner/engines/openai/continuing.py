"""How a server is made to go on from an answer that is begun for it (--begin), found out once, by what it counts.

Of an answer that holds `A` alone, a server that goes on from it reads that one token beside the question; one that
answers anew closes the turn and opens another, five tokens or so more. What the model says decides nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ModelError
from .client import Client

_QUESTION = {"role": "user", "content": "Describe it."}
_BEGUN = {"role": "assistant", "content": "A"}
_OF_THE_WORD = (1, 2)  # tokens; two where a space is put before it
# vLLM and SGLang are told; llama.cpp and Ollama do it by themselves, and a strict server knows no such parameters.
_WAYS: Sequence[Mapping[str, Any]] = ({"continue_final_message": True, "add_generation_prompt": False}, {})


def way_to_continue(client: Client, model: str, timeout_s: float) -> Mapping[str, Any]:
    """The parameters to send besides. Raises `ModelError` with the reason where it does not go on from an answer."""

    def read(messages: Sequence[Mapping[str, Any]], **parameters: Any) -> int | str:
        asked = {"model": model, "max_tokens": 1, "messages": messages, **parameters}
        return client.tokens_read(json.dumps(asked).encode(), timeout_s)

    alone = why = read([_QUESTION])
    for way in _WAYS if isinstance(alone, int) else ():
        begun = read([_QUESTION, _BEGUN], **way)
        if isinstance(alone, int) and isinstance(begun, int):
            if begun - alone in _OF_THE_WORD:
                return way
            why = "it answers anew instead of going on from them"
        else:
            why = begun
    raise ModelError(f"{client.endpoint.url} cannot be given an answer's first words ({why}): leave out --begin")
