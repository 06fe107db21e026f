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
