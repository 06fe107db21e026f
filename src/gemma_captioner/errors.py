"""The exceptions of the package.

The message of each says what happened and what to do.

    CaptionerError                 caught once, in cli/shell.py
    ├── UsageError                 the command or a setting is invalid              exit code 2
    ├── StartError                 the run cannot start, or cannot continue         exit code 1
    │   ├── ModelError             no such model, no access, wrong format
    │   ├── ServerError            the server does not answer, or refuses the key
    │   ├── MemoryShortageError    the model does not fit in memory
    │   └── StorageError           no caption can be written: disk full, read-only
    └── ItemError                  one file cannot be read, or its caption cannot be written: becomes a `Failed`
"""

import re


def redact_token(text: str, token: str | None = None) -> str:
    """Replace `token` and every Hugging Face token in the text. Use it on each error message of another library."""
    if token:
        text = text.replace(token, "[token]")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "[token]", text)


def redact_credentials(text: str) -> str:
    """Remove what could be a password or a key from the URLs, options and assignments in the text.

    # "https://me:secret@host/v1?key=k" -> "https://host/v1"   "vllm serve m --api-key k" -> "... --api-key [hidden]"
    """
    text = re.sub(r"(\w+://)[^\s/]*@", r"\1", text)
    text = re.sub(r"(\w+://[^\s?#]*)[?#]\S*", r"\1", text)
    return re.sub(r"(?i)(\S*(?:key|token|secret|password)[=\s]+)\S+", r"\1[hidden]", text)


class CaptionerError(Exception):
    exit_code = 1


class UsageError(CaptionerError):
    exit_code = 2


class StartError(CaptionerError):
    pass


class ModelError(StartError):
    pass


class ServerError(StartError):
    pass


class MemoryShortageError(StartError):
    pass


class StorageError(StartError):
    pass


class ItemError(CaptionerError):
    pass
