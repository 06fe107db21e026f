"""Reads the JSON object in a model's answer. Repairs what cannot change its meaning, and nothing else.

An answer that is cut off or has a string without quotes is refused. Libraries that repair JSON complete such answers.
"""

import json
import re
from typing import Any, NoReturn

from .base import FormatError

_START = re.compile(r"\{\s*(?:[\"\u201c\u201d\u201e\u201f]|\})")
# A string; a string in typographic quotes; a comma before a closing bracket.
_TOKEN = re.compile(
    r"(?P<string>\"(?:[^\"\\]|\\.)*\")|[\u201c\u201d\u201e\u201f](?P<curly>[^\u201c\u201d\u201e\u201f]*)"
    r"[\u201c\u201d\u201e\u201f]|,(?=\s*[}\]])",
    re.DOTALL,
)


def parse_object(text: str) -> dict[str, Any]:
    """Return the first JSON object in the text.

    # 'Here it is: {"a": [1, 2,],} Enjoy!' -> {"a": [1, 2]}

    Raises:
        FormatError: There is none, or it is broken.
    """
    start = _START.search(text)
    if start is None:
        raise FormatError("expected one JSON object")
    found: Any = None
    for candidate in (text[start.start() :], _TOKEN.sub(_repaired, text[start.start() :])):
        try:
            found, _ = json.JSONDecoder(strict=False, parse_constant=_refuse).raw_decode(candidate)
        except RecursionError as error:
            raise FormatError("the JSON is nested too deeply") from error
        except json.JSONDecodeError as error:
            near = candidate[max(0, error.pos - 30) : error.pos + 10]
            problem = FormatError(f"the JSON is not valid ({error.msg.lower()}) near {near!r}")
        except ValueError as error:  # Python reads no integer of more than 4300 digits
            raise FormatError("the JSON holds a number that is too long") from error
        else:
            assert isinstance(found, dict)  # it starts with a brace
            return found
    raise problem


def _refuse(constant: str) -> NoReturn:
    raise FormatError(f"the JSON holds {constant}, which is not a number")


def _repaired(token: re.Match[str]) -> str:
    """Keep a string, replace typographic quotes around a string, remove a comma."""
    if (inside := token["curly"]) is not None:
        return '"' + re.sub(r'(?<!\\)"', r"\"", inside) + '"'
    return token["string"] or ""
