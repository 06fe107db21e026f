"""Every error that the package raises on purpose.

CaptionerError                 caught once, in cli/shell.py; its text holds the remedy
├── UsageError                 the command or a setting makes no sense          exit code 2
├── StartError                 the run could not start, or died                 exit code 1
│   ├── ModelError             no such model, no access, wrong format
│   ├── MemoryShortageError    the model cannot fit
│   └── StorageError           no caption can be written: disk full, read-only
└── ItemError                  one file cannot be read, or its caption not written: becomes its `Failed`
"""

import re


def without_token(text: str, token: str | None = None) -> str:
    """The text with every Hugging Face token in it, and this one, blotted out: what any error passes through."""
    if token:
        text = text.replace(token, "[token]")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "[token]", text)


class CaptionerError(Exception):
    exit_code = 1


class UsageError(CaptionerError):
    exit_code = 2


class StartError(CaptionerError):
    pass


class ModelError(StartError):
    pass


class MemoryShortageError(StartError):
    pass


class StorageError(StartError):
    pass


class ItemError(CaptionerError):
    pass
