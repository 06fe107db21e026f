"""Every error that the package raises on purpose.

CaptionerError                 caught once, in cli/shell.py; its text holds the remedy
├── UsageError                 the command or a setting makes no sense          exit code 2
├── StartError                 the run could not start, or died                 exit code 1
│   ├── ModelError             no such model, no access, wrong format
│   ├── ServerError            a server does not answer, or refuses the key
│   ├── MemoryShortageError    the model cannot fit
│   └── StorageError           no caption can be written: disk full, read-only
└── ItemError                  one file cannot be read, or its caption not written: becomes its `Failed`
"""

import re


def redact_token(text: str, token: str | None = None) -> str:
    """The text with every Hugging Face token in it, and this one, blotted out: what any error passes through."""
    if token:
        text = text.replace(token, "[token]")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "[token]", text)


def redact_credentials(text: str) -> str:
    """The text with what could be a password or a key taken out of its URLs, options and assignments.

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
