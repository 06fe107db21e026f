"""JPEG files that a server is sent as they are: the same pixels, and nothing that tells where a photo was taken."""

import base64
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gemma_captioner import Captioned, caption
from gemma_captioner.media.jpeg import jpeg_to_send, strip_metadata
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion

SECRETS = (b"GPS", b"Exif", b"xmp", b"Photoshop", b"Null Island", b"ICC_PROFILE", b"MPF")


def picture(side: int = 64, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(7)
    smooth = rng.integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC).convert(mode)


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = "taken on Null Island"
    tags.get_ifd(0x8825).update({1: "N", 2: (12.0, 34.0, 56.0), 3: "E", 4: (1.0, 2.0, 3.0)})
    return tags.tobytes()


def saved(image: Image.Image | None = None, **options) -> bytes:
    """A JPEG file with every kind of metadata that cameras and editors write."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    everything = {
        "exif": exif(),
        "xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/" exif:GPSLatitude="12,34.5N">Null Island</x:xmpmeta>',
        "comment": b"Null Island",
        "icc_profile": srgb,
    }
    file = io.BytesIO()
    (image or picture()).save(file, "jpeg", **({"quality": 92} | everything | options))
    data = file.getvalue()
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x0eNull Island"
    segment = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    after = b"MPF" + b"GPS of a second image" + exif()
    return data[:2] + segment + data[2:] + after


def arrives(folder: Path, data: bytes, turn: int = -1, **settings) -> bytes:
    """The image that the server gets for a file, or in another turn."""
    (folder / "photo.jpg").write_bytes(data)
    with StubServer(lambda asked: HttpResponse(body=completion("A cat sits on a mat."))) as stub:
        here = {"engine": "server", "base_url": stub.url, "workers": 1, "existing": "overwrite"}
        [outcome] = caption(folder, **(here | settings))
        assert isinstance(outcome, Captioned), outcome
        return image_bytes(stub.asked[-1], turn)


def image_bytes(asked: HttpRequest, turn: int = -1) -> bytes:
    [part] = [part for part in asked.json["messages"][turn]["content"] if part["type"] == "image_url"]
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])


def same_pixels(one: bytes, other: bytes) -> bool:
    images = [Image.open(io.BytesIO(data)) for data in (one, other)]
    return images[0].size == images[1].size and np.array_equal(*map(np.asarray, images))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}])
def test_a_file_arrives_with_its_pixels_and_without_metadata(tmp_path, options):
    data = saved(**options)
    assert all(secret in data for secret in SECRETS)
    sent = arrives(tmp_path, data, image_size=64)
    assert same_pixels(sent, data)
    assert not [secret for secret in SECRETS if secret in sent]
    assert len(sent) < len(data)
    assert strip_metadata(sent) == sent


def test_the_file_of_an_example_is_sent_too(tmp_path):
    for name in ("examples", "media"):
        (tmp_path / name).mkdir()
    example = saved(picture().rotate(90))
    (tmp_path / "examples" / "a.jpg").write_bytes(example)
    (tmp_path / "examples" / "a.txt").write_text("A dog.")
    sent = arrives(tmp_path / "media", saved(), turn=0, examples=tmp_path / "examples", image_size=64)
    assert sent == strip_metadata(example)


def adobe_rgb() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.find(b"s\x00R\x00G\x00B")
    at = at if at >= 0 else profile.find(b"sRGB", 128)
    profile[at : at + 1] = b"x"  # another name
    return bytes(profile)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (saved(exif=exif(6)), {}),
        (saved(picture(mode="L"), icc_profile=b""), {}),
        (saved(picture(mode="CMYK"), icc_profile=b""), {}),
        (saved(icc_profile=adobe_rgb()), {}),
        (saved(keep_rgb=True), {}),
        (saved(picture(65)), {}),
        (saved(), {"exact_pixels": True}),
        (saved(), {"image_format": "png"}),
    ],
    ids=["rotated", "gray", "CMYK", "another profile", "RGB coded", "another size", "exact pixels", "PNG"],
)
def test_what_a_server_would_see_otherwise_is_encoded(tmp_path, data, settings):
    sent = arrives(tmp_path, data, image_size=64, **settings)
    assert strip_metadata(data) != sent
    assert Image.open(io.BytesIO(sent)).size == (64, 64)
    assert not [secret for secret in SECRETS if secret in sent]


def test_what_fits_depends_on_the_size_that_the_model_uses(tmp_path):
    def sent(data: bytes, size: tuple[int, int], scale: float) -> bool:
        (tmp_path / "photo.jpg").write_bytes(data)
        return jpeg_to_send(tmp_path / "photo.jpg", size, scale) is not None

    small = saved(picture(200), quality=70)
    assert sent(small, (200, 200), 1) and not sent(small, (300, 300), 1) and not sent(small, (100, 100), 1)
    assert sent(small, (300, 300), 2) and sent(small, (100, 100), 2) and not sent(small, (99, 99), 2)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8))
    assert not sent(saved(noise, quality=100), (200, 200), 2)  # as many bytes as pixels


def test_an_orientation_counts_as_for_the_decoder(tmp_path):
    """Not in XMP, and not out of range."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for metadata in ({"exif": b"", "xmp": xmp}, {"exif": exif(9)}):
        (tmp_path / "photo.jpg").write_bytes(saved(**metadata))
        assert jpeg_to_send(tmp_path / "photo.jpg", (64, 64), 1) is not None, metadata


def test_a_damaged_file_is_never_sent():
    data = saved()
    for cut in (3, 100, len(data) // 2):
        assert strip_metadata(data[:cut]) is None
    assert strip_metadata(b"\xff\xd8\xff") is None and strip_metadata(b"") is None
