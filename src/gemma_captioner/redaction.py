"""Removes passwords, keys and tokens from messages and logs."""

import re
from collections.abc import Iterable, Mapping

_MIN_KNOWN_LENGTH = 8  # not "none" or "EMPTY", which stand for a key
_SPECIAL_TOKENS = ("pad", "eos", "bos", "boi", "eoi", "image", "video", "audio", "unk", "sep", "cls", "mask", "stop")
_NOT_SPECIAL = "".join(rf"(?<!{word}token)(?<!{word}[_-]token)" for word in _SPECIAL_TOKENS)
# The end of a name: HF_TOKEN, PGPASSWORD, x-api-key, apiKey, OPENAIKEY; not monkey, max_tokens, HF_TOKEN_PATH.
_NAME = rf"""
    (?: (?i: token{_NOT_SPECIAL} | secret | password | passwd | passphrase | authorization
      | api[\ _-]?keys? | (?:auth|access|secret|private)[\ _-]?(?:key|token) | (?:openai|wandb|hf|aws|azure|google)key )
      | (?: (?<![A-Za-z]) | (?<=[a-z])(?=K) ) (?i:key) | (?<=[A-Z])KEY
    ) (?![\w-])
"""
_QUOTED_OR_BARE = r""""[^"]*"|'[^']*'|[^\s"']+"""
_WORD = r"""
    (?: "(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'? | \S* [^\s\])},;"'] )
"""
# Repetition has a limit where its end may be missing: the time stays linear in the length of the text.
_VALUE = rf"""
    (?: [\[(] [^\])]{{0,1000}} (?: [\])] | \Z )                 # one or several in a list
      | \\+" [^"\n]* "? | \\+' [^'\n]* '?           # JSON within JSON
      | (?:(?i:bearer|basic|digest)[ \t]+)? {_WORD} )
"""
_SECRETS = [
    re.compile(rf"(?P<label>{label}) (?P<value>{value})", re.VERBOSE)
    for label, value in (
        # vLLM accepts several keys: all words up to the next option, or the end of the shell command.
        (r"(?<![\w-]) --api[_-]keys? [ \t]+ (?![-\s])", rf"{_VALUE} (?: [ \t]+ (?![-\s\#&|;<>]) {_WORD} )*"),
        (rf"(?<![\w-]) --[\w-]*{_NAME} [ \t]+ (?![-\s])", _VALUE),
        # An assignment, a header, or a key of JSON; not "missing key: lm_head".
        (
            rf"""(?! (?<![\w-]) (?i:key|token) (?:[ \t]+[:=] | [:=][ \t]) )
            {_NAME} \\*["']? [ \t]* [:=] [ \t]* (?!\s)""",
            _VALUE,
        ),
        (r"\bBearer [ \t]+ (?!(?:tokens?|auth\w*|schemes?|headers?|credentials?|of|is|and|or)\b)", _VALUE),
    )
]


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
    text = redact_token(_join_lines(text))
    text = re.sub(r"://[^\s/]*@", "://", text)
    text = re.sub(r"(://[^\s?#]*)(?:[?#]\S*)?", r"\1", text)
    for pattern in _SECRETS:
        text = pattern.sub(r"\g<label>[hidden]", text)
    return text


def known_secrets(command: str, environment: Mapping[str, str]) -> list[str]:
    """Return the secrets that a shell command names, and those of its environment. Short values may be words.

    A path, a lower-case word, or a phrase in the environment is no secret: it would be hidden wherever a log has it.
    """
    values = [found["value"] for pattern in _SECRETS for found in pattern.finditer(_join_lines(command))]
    words = [word.strip("[](),\\'\"") for value in values for word in re.findall(_QUOTED_OR_BARE, value)]
    inherited = [
        value
        for name, value in environment.items()
        if re.search(rf"{_NAME}\Z", name, re.VERBOSE) and not re.search(r"\A[/~]|\A[a-z]+\Z|\s", value)
    ]
    return list(dict.fromkeys(secret for secret in words + inherited if len(secret) >= _MIN_KNOWN_LENGTH))


def _join_lines(command: str) -> str:
    """Join the lines that a shell reads as one."""
    return re.sub(r"\\\r?\n", "", command)
