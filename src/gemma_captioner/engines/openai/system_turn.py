"""Finds out once per session whether a server can pass a system message to Gemma 4.

transformers serve and vLLM pass every message as a list of parts. Gemma 4's published templates expect a string there,
and print the list: `[{'type': 'text', 'text': 'Be brief.'}]`. The test compares prompt token counts.
"""

from .client import Client

_TEXT, _PRINTED = "A", "[{'type': 'text', 'text': 'A'}]"


def prints_list(client: Client, model: str, timeout_s: float) -> bool:
    """Return whether the model would read a printed list. False if the server counts no tokens.

    # Gemma 4's turn around a system message: 5 tokens. A printed list: at least 10 more than its text.
    """
    messages = {"role": "system", "content": _TEXT}, {"role": "user", "content": _TEXT}
    with_system = client.count_prompt_tokens(model, messages, timeout_s)
    printed = client.count_prompt_tokens(model, [{"role": "user", "content": _PRINTED}], timeout_s)
    return isinstance(with_system, int) and isinstance(printed, int) and with_system > printed
