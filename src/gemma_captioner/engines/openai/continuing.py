"""Finds out once per session how a server continues the first words of an answer (--begin).

The test compares prompt token counts and ignores the model's reply. If the answer begins with `A`, a server that
continues it counts about one token more than for the prompt alone. One that starts a new turn counts about five more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ModelError
from .client import Client

_PROMPT = {"role": "user", "content": "Describe it."}
_BEGINNING = {"role": "assistant", "content": "A"}
_TOKENS_OF_BEGINNING = (1, 2)  # 2 if the template adds a space
# vLLM and SGLang require parameters. llama.cpp and Ollama continue by default; a strict server rejects parameters.
_PARAMETERS: Sequence[Mapping[str, Any]] = ({"continue_final_message": True, "add_generation_prompt": False}, {})


def continuation_fields(client: Client, model: str, timeout_s: float) -> Mapping[str, Any]:
    """Return the parameters that make the server continue an answer. Raises `ModelError` if it cannot."""
    prompt_only = reason = client.count_prompt_tokens(model, [_PROMPT], timeout_s)
    for parameters in _PARAMETERS if isinstance(prompt_only, int) else ():
        with_beginning = client.count_prompt_tokens(model, [_PROMPT, _BEGINNING], timeout_s, **parameters)
        if isinstance(prompt_only, int) and isinstance(with_beginning, int):
            if with_beginning - prompt_only in _TOKENS_OF_BEGINNING:
                return parameters
            reason = "it starts a new answer"
        else:
            reason = with_beginning
    raise ModelError(f"{client.endpoint.url} cannot continue an answer's first words ({reason}): remove --begin")
