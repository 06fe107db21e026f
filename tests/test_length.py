"""The length of a caption in words, or in characters where a script has no spaces."""

import pytest

from gemma_captioner.captions.length import caption_length, describe_length
from gemma_captioner.captions.limits import length_flags


@pytest.mark.parametrize(
    ("caption", "length", "described"),
    [
        ("A red cat.", 3, "3 words"),
        ("", 0, "0 words"),
        ("Un chat rouge \u00e9norme.", 4, "4 words"),
        ("\u041a\u0440\u0430\u0441\u043d\u044b\u0439 \u043a\u043e\u0442", 2, "2 words"),
        ("\ube68\uac04 \uace0\uc591\uc774", 2, "2 words"),
        ("\u0642\u0637 \u0623\u062d\u0645\u0631", 2, "2 words"),
        ("\u4e00\u53ea\u7ea2\u732b\u3002", 4, "4 characters"),
        ("\u8d64\u3044\u732b\u3001\u30cd\u30b3\u3002", 5, "5 characters"),
        ("\u0e41\u0e21\u0e27\u0e2a\u0e35\u0e41\u0e14\u0e07", 7, "7 characters"),
        ("ohwx, \u7ea2\u732b", 3, "2 characters, 1 word"),
    ],
)
def test_length(caption, length, described):
    assert (caption_length(caption), describe_length(caption)) == (length, described)
    assert length_flags(caption, None) == (("too_short",) if length < 3 else ())
