"""Decodes the bytes of a caption file and detects its encoding. Pure."""

import codecs
import re

_BOMS = {  # longest first: the UTF-32 BOM starts with the UTF-16 BOM
    codecs.BOM_UTF8: "UTF-8 with a BOM",
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_CODECS = {"UTF-8 with a BOM": "utf-8-sig", "UTF-32": "utf-32", "UTF-16": "utf-16"}

# Each code page: codec, regex of its non-ASCII characters, and the expected minimum and maximum share of letters in it.
_PUNCTUATION = (
    "\u2018-\u201e\u2013\u2014\u2022\u2026\u20ac\u2122"
    "\u00a0\u00a1\u00a9\u00ab\u00ae-\u00b1\u00b4\u00b7\u00bb\u00bd\u00bf"
)
_WESTERN = (  # without Icelandic letters: other code pages have common letters at these bytes
    "\u00c0-\u00cf\u00d1-\u00d6\u00d8-\u00dc\u00df-\u00ef\u00f1-\u00f6\u00f8-\u00fc\u00ff"
    "\u0152\u0153\u0160\u0161\u0178\u017d\u017e"
)
_CYRILLIC = "\u0401\u0404\u0406\u0407\u0410-\u044f\u0451\u0454\u0456\u0457"
_CJK_PUNCTUATION = "\u3000-\u303f\uff00-\uff65\u2010-\u2027"
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")  # not in text: bytes of another encoding
# Lower case in one Cyrillic code page is upper case in another: decoded with the wrong one, "Word" becomes "wORD".
_CYRILLIC_WORD = re.compile(f"[{_CYRILLIC}]+")
_CASED = re.compile(
    "[\u0401\u0404\u0406\u0407\u0410-\u042f]*|[\u0401\u0404\u0406\u0407\u0410-\u042f]?[\u0430-\u044f\u0451\u0454\u0456\u0457]*"
)
_CODE_PAGES = {
    "Windows-1252": ("cp1252", f"[{_PUNCTUATION}{_WESTERN}]*", 0.0, 0.3),
    "Windows-1251": ("cp1251", f"[{_PUNCTUATION}{_CYRILLIC}]*", 0.3, 1.0),
    "KOI8": ("koi8-u", f"[{_PUNCTUATION}{_CYRILLIC}]*", 0.3, 1.0),
    "Shift-JIS": ("cp932", f"(?=.*[\u3041-\u30fe])[\u3041-\u30fe\u4e00-\u9fff{_CJK_PUNCTUATION}]*", 0.0, 1.0),
    "GBK": ("gb2312", f"[\u4e00-\u9fff{_CJK_PUNCTUATION}]*", 0.3, 1.0),
    "EUC-KR": ("euc_kr", f"[\uac00-\ud7a3{_CJK_PUNCTUATION}]*", 0.3, 1.0),
}  # fmt: skip


def decode_text(content: bytes) -> tuple[str | None, str]:
    """Return (text, encoding name). The text is None if the encoding is ambiguous or unknown.

    # b"a caf\\xe9" -> "a café", "Windows-1252"        b"\\xff\\xfea\\0" -> "a", "UTF-16"
    """
    for bom, name in _BOMS.items():
        if content.startswith(bom):
            return _decode(content, _CODECS[name]), name
    if b"\0" in content:
        order = "le" if content[1::2].count(0) > content[0::2].count(0) else "be"
        if 2 * max(content[0::2].count(0), content[1::2].count(0)) > 0.8 * len(content):
            return _decode(content, f"utf-16-{order}"), "UTF-16"
    if (text := _decode(content, "utf-8")) is not None:
        return text, "UTF-8"
    candidates = {
        name: text for name, page in _CODE_PAGES.items() if (text := _decode_code_page(content, *page)) is not None
    }
    if len(candidates) == 1:
        [(name, text)] = candidates.items()
        return text, name
    return None, " or ".join(candidates) or "no known encoding fits"


def _decode_code_page(content: bytes, codec: str, alphabet: str, least: float, most: float) -> str | None:
    """The text, if all its non-ASCII characters match `alphabet` and their share of the letters is in range."""
    text = _decode(content, codec)
    if text is None or not re.fullmatch(alphabet, re.sub(r"[\x00-\x7f]", "", text)):
        return None
    if _CONTROLS.search(text) or any(not _CASED.fullmatch(word) for word in _CYRILLIC_WORD.findall(text)):
        return None
    letters = [c for c in text if c.isalpha()]
    share = sum(not c.isascii() for c in letters) / max(1, len(letters))
    return text if least <= share <= most else None


def _decode(content: bytes, codec: str) -> str | None:
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None
