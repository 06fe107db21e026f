"""The filter language of the review page: its terms, its sorts, and what it says of a wrong term."""

import asyncio
import os
from pathlib import Path

import pytest
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.errors import ItemError, UsageError
from gemma_captioner.review.edits import Edits
from gemma_captioner.review.library import Library
from gemma_captioner.review.pixel_sizes import PixelSizes, read_chunk
from gemma_captioner.review.query import Query, filter_items
from gemma_captioner.review.terms import FILTERS, PLAIN_TERMS, FilterContext, PixelSize, highlighted, parse, written

TEXTS = {
    "a1.png": "A red cat sits by a black dog.",
    "a10.png": "1girl, long hair, red dress",
    "a2.png": "",
    "day/b.mp4": "I cannot help with that.",
}


@pytest.fixture
def library(tmp_path) -> Library:
    """Files that hold nothing, which nobody opens here, and their captions."""
    for place, (name, text) in enumerate(TEXTS.items()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        if text:
            path.with_suffix(".txt").write_text(text)
            os.utime(path.with_suffix(".txt"), (1000 + place, 1000 + place))
    library = Library(Root(tmp_path, tmp_path, tmp_path), Settings.from_dict({"recursive": True}))
    library.refresh()
    library.flag_unknown()
    return library


def names(library: Library, text: str, facts: FilterContext = FilterContext(), **query) -> list[str]:
    return [entry.name for entry in filter_items(library.present(), Query(text, **query), facts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", [("", "", "cat", False)]),
        ('-"black cat"', [("", "", "black cat", True)]),
        ('flag:any -state:"by hand"', [("flag", ":", "any", False), ("state", ":", "by hand", True)]),
        ("words>20 tokens:<=75 size<512", [("words", ">", "20", False), ("tokens", "<=", "75", False)]),
        (r'tag:"say \"hi\" \\o/"', [("tag", ":", r'say "hi" \o/', False)]),
        ('"not closed yet', [("", "", "not closed yet", False)]),
        ("FLAG:any", [("flag", ":", "any", False)]),
        ("a>b - 3:2", [("", "", "a>b", False), ("", "", "-", False), ("", "", "3:2", False)]),
        ("  ", []),
    ],
)
def test_what_is_typed_becomes_terms(text, expected):
    assert [(t.key, t.operator, t.value, t.is_negated) for t in parse(text)][: len(expected) or None] == expected


@pytest.mark.parametrize("value", ["plain", "by hand", 'a "quoted" \\ one', "day 1/x", '"', "\\"])
def test_what_a_field_writes_is_read_back(value):
    query = Query("cat -dog").with_term("folder", value).with_term("words", "3", ">=")
    assert (query.value("folder"), query.value("words", ">="), query.value("words", "<=")) == (value, "3", "")
    assert query.with_term("folder", "other").value("folder") == "other"
    assert query.with_term("folder", "").with_term("words", "", ">=") == Query("cat -dog")
    assert Query("-folder:a").value("folder") == ""  # an exclusion is no choice of the field


def test_in_the_mode_for_expressions_known_keys_are_terms_and_the_rest_is_one():
    query = Query("^a (red|blue)  kind:image", is_regex=True)
    assert [(t.key, t.value) for t in query.terms] == [("kind", "image"), ("re", "^a (red|blue)")]
    assert query.with_term("kind", "").text == "^a (red|blue)"
    assert Query("(?:a) x:y", is_regex=True).value("re") == "(?:a) x:y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CAT", ["a1.png"]),
        ("dog cat", ["a1.png"]),
        ('"dog cat"', []),
        ("red -cat", ["a10.png"]),
        ("day/", ["day/b.mp4"]),
        ("caption:a1", []),
        ("name:A1", ["a1.png", "a10.png"]),
        ("name:a?.png", ["a1.png", "a2.png"]),
        ("folder:day", ["day/b.mp4"]),
        ("folder:da", []),
        ("kind:clip", ["day/b.mp4"]),
        ("-kind:clip", ["a1.png", "a2.png", "a10.png"]),
        ("flag:refusal", ["day/b.mp4"]),
        ("flag:any", ["day/b.mp4"]),
        ("flag>0", ["day/b.mp4"]),
        ("-flag:any state:by_hand", ["a1.png", "a10.png"]),
        ("state:uncaptioned", ["a2.png"]),
        ("words>=5 words<8", ["a10.png", "day/b.mp4"]),
        ("words:8", ["a1.png"]),
        ("chars>27", ["a1.png"]),
        ("tags=3", ["a10.png"]),
        ('tag:"long  hair"', ["a10.png"]),
        ("tag:hair", []),
        (r"re:^\d", ["a10.png"]),
        ("-re:^[a1]", ["day/b.mp4"]),
        ("mark:red", ["a1.png", "a2.png", "a10.png", "day/b.mp4"]),
        ("size<512", ["a1.png"]),
        ("width>600 height=480", ["a1.png"]),
        ("seconds>2.5", ["day/b.mp4"]),
        ("tokens>7", ["a1.png"]),
        ("state:recaptioned", ["a1.png"]),
    ],
)
def test_terms(library, text, expected):
    sizes = {library.entries[0].number: PixelSize(640, 480), library.entries[-1].number: PixelSize(1920, 1080, 3.0)}
    facts = FilterContext(
        proposed={library.entries[0].number}, count_tokens=lambda caption: len(caption.split()), sizes=sizes
    )
    assert library.entries[0].name == "a1.png" and library.entries[-1].name == "day/b.mp4"
    assert names(library, text, facts) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("state:opne", r"state:opne: give one of state:open, .*state:\"by hand\""),
        ("kind:", "kind:: give one of kind:image, kind:clip"),
        ("cat words>many", "words>many: give a number after >, >=, <, <=, =, for example words>20"),
        ("flag:to_long", "flag:to_long: unknown flag. Did you mean too_long?"),
        ("flg:any", "flg:any: unknown filter flg. Did you mean flag?.*Quote it to search for the text"),
        ("name:", "name:: give some text, for example name:"),
        ("tokens>75", "tokens>75: no text encoder is known: start the page with --target"),
        ("re:(", "not a valid regular expression"),
        ("state>3", "state>3: give one of"),
    ],
)
def test_a_wrong_term_is_named_with_what_is_allowed(library, text, message):
    with pytest.raises(UsageError, match=message):
        names(library, text)


def test_every_example_of_the_menu_is_a_valid_term(library):
    facts = FilterContext(count_tokens=len)
    for example, help in (*PLAIN_TERMS, *((key.example, key.help) for key in FILTERS.values())):
        [term] = parse(example)
        assert help and (term.key or "", written(term.key, term.value, term.operator)) in (
            ("", term.operator + written(term.key, term.value, term.operator)),
            (term.key, example),
        )
        names(library, example, facts)


def test_sorts(library):
    assert names(library, "", sort="time") == ["day/b.mp4", "a10.png", "a1.png", "a2.png"]  # the latest first
    assert names(library, "", sort="length") == ["a2.png", "a10.png", "day/b.mp4", "a1.png"]
    assert names(library, "", sort="flags")[0] == "day/b.mp4"
    assert names(library, "-state:uncaptioned", sort="name", is_reversed=True) == ["day/b.mp4", "a10.png", "a1.png"]


def test_decisions_are_found(library):
    edits = Edits(library)
    entry = library.entries[0]
    edits.decide([(entry.number, entry.caption.digest)], "approved", tab_id="me")
    edits.close()
    assert names(library, "state:approved") == ["a1.png"]
    assert names(library, "state:open") == ["a10.png", "day/b.mp4"]


def test_what_is_highlighted():
    assert highlighted(parse('red -dog "a cat" tag:solo mark:blue words>3 name:x re:z red')) == [
        "red", "a cat", "solo", "blue",
    ]  # fmt: skip


# Sizes


@pytest.fixture
def media(tmp_path) -> Path:
    folder = tmp_path / "media"
    draw_samples(folder, images=0, clips=1, seed=7)
    Image.new("RGB", (640, 480)).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.new("RGB", (640, 480)).save(folder / "turned.jpg", exif=exif)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "elsewhere.png")
    return folder


@pytest.mark.parametrize("crashes", [False, True])
def test_sizes_are_read_once_and_a_file_that_crashes_the_worker_costs_only_its_own(media, crashes):
    library = Library(Root(media, media, media), Settings.from_dict({}))
    library.refresh()
    calls = []

    async def run(function, arguments, timeout_s):
        calls.append(len(arguments[0]))
        if crashes and any(item.name == "wide.png" for item in arguments[0]):
            raise ItemError("the decoder crashed on this file")
        return function(*arguments)

    sizes = PixelSizes(library, run)
    progress: list[int] = []
    asyncio.run(sizes.read(sizes.missing(library.present()), progress.append))
    assert sizes.missing(library.present()) == [] and progress == [5]
    by_name = {library[number].name: size for number, size in sizes.known.items()}
    clip = next(name for name in by_name if name.endswith(".mp4"))
    assert by_name.pop(clip).seconds > 0.5
    assert by_name.pop("turned.jpg") == PixelSize(480, 640)
    assert by_name == ({} if crashes else {"wide.png": PixelSize(640, 480)})
    assert calls == ([4, 1, 1, 1, 1] if crashes else [4])  # not the link that leads out
    sizes.forget()
    assert len(sizes.missing(library.present())) == 5


def test_sizes_are_those_of_the_decoder(tmp_path):
    """Orientation counts in PNG and AVIF, too, and not in XMP."""
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = Image.new("RGB", (100, 40))
    image.save(tmp_path / "a.png", exif=exif)
    image.save(tmp_path / "b.avif", exif=exif)
    image.save(tmp_path / "c.jpg", xmp=xmp)
    library = Library(Root(tmp_path, tmp_path, tmp_path), Settings())
    library.refresh()
    assert read_chunk([entry.item for entry in library.present()]) == [
        PixelSize(40, 100), PixelSize(40, 100), PixelSize(100, 40),
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_has_no_size(media):
    library = Library(Root(media, media, media), Settings.from_dict({}))
    library.refresh()
    assert read_chunk([entry.item for entry in library.present() if entry.name == "broken.png"]) == [None]
