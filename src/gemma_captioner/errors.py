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
from collections.abc import Iterable, Mapping

_MIN_KNOWN_LENGTH = 8  # not "none" or "EMPTY", which stand for a key
# The end of a name: HF_TOKEN, x-api-key, apiKey; not monkey, max_tokens, HF_TOKEN_PATH.
_SECRET_NAME = (
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    r"(?i:(?:api|auth|access|secret)?(?:key|token)|api[-_]?keys|secret|password|passwd|passphrase|authorization)"
    r"(?![\w-])"
)
_SECRET = re.compile(
    rf"""
    (?P<label>
        (?<![\w-]) --[\w-]*{_SECRET_NAME} [ \t]+ (?![-\s])    # an option and its value
      | {_SECRET_NAME} \\*["']? [ \t]* [:=] [ \t]* (?!\s)      # an assignment, a header, or a key of JSON
      | \bBearer [ \t]+ (?!(?:tokens?|auth\w*|schemes?|headers?|credentials?|of|is|and|or)\b)
    )
    (?P<value>
        [\[(] [^\])]* [\])]                                    # one or several in a list
      | "(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'?
      | \\+(?P<quote>["']) .*? (?:(?P=quote)|$)                 # JSON within JSON
      | (?:(?i:bearer|basic|digest)[ \t]+)? \S+? (?=[\])}},;"']*(?:\s|\Z))
    )
    """,
    re.VERBOSE,
)


def redact_token(text: str, token: str | None = None) -> str:
    """Replace `token` and every Hugging Face token in the text. Use it on each error message of another library."""
    if token:
        text = text.replace(token, "[token]")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "[token]", text)


def redact_credentials(text: str, known: Iterable[str] = ()) -> str:
    """Remove what could be a password or a key from the URLs, options, headers and assignments in the text.

    # "https://me:secret@host/v1?key=k" -> "https://host/v1"   "vllm serve m --api-key k" -> "... --api-key [hidden]"
    # {'api_key': ['k'], 'port': 8} -> {'api_key': [hidden], 'port': 8}   "a token limit of 8" is left as it is

    Args:
        known: Secrets to remove wherever they are.
    """
    for secret in sorted(known, key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(secret, "[hidden]")
    text = redact_token(text)
    text = re.sub(r"(\w+://)[^\s/]*@", r"\1", text)
    text = re.sub(r"(\w+://[^\s?#]*)[?#]\S*", r"\1", text)
    return _SECRET.sub(lambda found: f"{found['label']}[hidden]", text)


def known_secrets(command: str, environment: Mapping[str, str]) -> list[str]:
    """Return the secrets that a shell command names, and those of its environment. Short values may be words."""
    named = [found["value"].strip("[]()'\"") for found in _SECRET.finditer(command)]
    inherited = [value for name, value in environment.items() if re.search(rf"{_SECRET_NAME}\Z", name)]
    return [secret for secret in named + inherited if len(secret) >= _MIN_KNOWN_LENGTH]


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
