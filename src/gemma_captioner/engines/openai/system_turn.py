"""Finds out once per session whether a server can pass a system message to Gemma 4.

transformers serve and vLLM pass every message as a list of parts. Gemma 4's published templates expect a string there,
and print the list: `[{'type': 'text', 'text': 'Be brief.'}]`. The test compares prompt token counts.
"""

import json
from collections.abc import Mapping

from .client import Client

_TEXT, _PRINTED = "A", "[{'type': 'text', 'text': 'A'}]"


def prints_list(client: Client, model: str, timeout_s: float) -> bool:
    """Return whether the model would read a printed list. False if the server counts no tokens.

    # Gemma 4's turn around a system message: 5 tokens. A printed list: at least 10 more than its text.
    """

    def count_tokens(*messages: Mapping[str, str]) -> int | str:
        payload = {"model": model, "max_tokens": 1, "messages": messages}
        return client.count_prompt_tokens(json.dumps(payload).encode(), timeout_s)

    with_system = count_tokens({"role": "system", "content": _TEXT}, {"role": "user", "content": _TEXT})
    printed = count_tokens({"role": "user", "content": _PRINTED})
    return isinstance(with_system, int) and isinstance(printed, int) and with_system > printed
