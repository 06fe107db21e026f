"""The length of a caption. Pure."""

import re

from ..text import counted

# Scripts that are written without spaces: Thai, Lao, Myanmar, Khmer; kana, bopomofo; Han. Combining marks do not count.
UNSPACED = re.compile(
    "[\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ec0-\u0ec6\u1000-\u102a\u1780-\u17b3"
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U00020000-\U0003ffff]"
)
_LETTER = re.compile(r"\w")


def caption_length(caption: str) -> int:
    """Return the number of words. In a script without spaces, each character counts as one.

    # "A red cat." -> 3      "\u4e00\u53ea\u7ea2\u732b\u3002" -> 4      "\u7ea2\u732b, a cat" -> 4
    """
    unspaced, words = _count(caption)
    return unspaced + words


def describe_length(caption: str) -> str:
    """# "A red cat." -> 3 words      "\u4e00\u53ea\u7ea2\u732b\u3002" -> 4 characters      mixed -> both"""
    unspaced, words = _count(caption)
    if not unspaced:
        return counted(words, "word")
    characters = counted(unspaced, "character")
    return f"{characters}, {counted(words, 'word')}" if words else characters


def _count(caption: str) -> tuple[int, int]:
    """Return (characters of scripts without spaces, words of the rest)."""
    if caption.isascii():
        return 0, len(caption.split())
    rest, unspaced = UNSPACED.subn(" ", caption)
    # Punctuation between such characters is no word. Without them, words are what spaces separate.
    return unspaced, len([word for word in rest.split() if not unspaced or _LETTER.search(word)])
