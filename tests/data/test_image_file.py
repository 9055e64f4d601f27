"""One image file as everything sees it: literal pixels for every mode, upright and over white; a refusal names it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from hpcnas.data import image_file
from hpcnas.data.image_file import UnreadableImage, middle, read


def grey(*values: float, dtype: Any = np.uint8) -> Image.Image:
    """A row of pixels."""
    return Image.fromarray(np.array([values], dtype=dtype))


def merged(mode: str, *bands: tuple[int, ...]) -> Image.Image:
    return Image.merge(mode, [grey(*band) for band in bands])


def palette(mode: str = "P") -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    return image.convert(mode)


RGBA = merged("RGBA", (0, 100, 100), (9, 100, 0), (200, 0, 0), (0, 128, 255))
OVER_WHITE = [(255, 255, 255), (177, 177, 127), (100, 0, 0)]  # 177 of 100 at half: 100 × 128/255 + 255 × 127/255
PALETTE = [(1, 2, 3), (40, 50, 60), (70, 80, 90)]
SIXTEEN = (0, 255, 256, 0x1234, 65535)
CASES: dict[str, tuple[Image.Image, dict[str, Any], list[Any]]] = {  # file: image, how it is saved, what is shown
    "1.png": (grey(0, 255).convert("1"), {}, [0, 255]),
    "l.png": (grey(0, 7, 255), {}, [0, 7, 255]),
    "l-transparent.png": (grey(0, 7), {"transparency": 7}, [0, 255]),
    "la.png": (merged("LA", (0, 100, 100), (0, 128, 255)), {}, [255, 177, 100]),
    "i16.png": (grey(*SIXTEEN, dtype=np.uint16), {}, [0, 0, 1, 0x12, 255]),
    "i16.tif": (grey(*SIXTEEN, dtype=np.uint16), {}, [0, 0, 1, 0x12, 255]),
    "i16-big-endian.tif": (Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xff"), {}, [0x12, 255]),
    "i16-transparent.png": (grey(0, 0x1234, dtype=np.uint16), {"transparency": 0x1234}, [0, 255]),
    "i16-0-is-white.tif": (grey(0, 65535, dtype=np.uint16), {"tiffinfo": {262: 0}}, [255, 0]),
    "i.tif": (grey(0, 300, 65535, dtype=np.int32), {}, [0, 1, 255]),
    "i-black.tif": (grey(0, 0, dtype=np.int32), {}, [0, 0]),
    "i-dark.pgm": (grey(0, 255, dtype=np.int32), {}, [0, 0]),
    "f.tif": (grey(0, 0.25, 1, dtype=np.float32), {}, [0, 64, 255]),
    "f-whole.tif": (grey(0, 5, 255, dtype=np.float32), {}, [0, 5, 255]),
    "rgb.png": (merged("RGB", (1, 4), (2, 5), (3, 6)), {}, [(1, 2, 3), (4, 5, 6)]),
    "rgb-transparent.png": (
        merged("RGB", (1, 4), (2, 5), (3, 6)), {"transparency": (4, 5, 6)}, [(1, 2, 3), (255, 255, 255)],
    ),
    "rgba.png": (RGBA, {}, OVER_WHITE),
    "rgba.tif": (RGBA, {}, OVER_WHITE),
    "rgba.webp": (RGBA, {"lossless": True, "exact": True}, OVER_WHITE),
    "p.png": (palette(), {}, PALETTE),
    "p-one-transparent.png": (palette(), {"transparency": 1}, [PALETTE[0], (255, 255, 255), PALETTE[2]]),
    "p-one-transparent.gif": (palette(), {"transparency": 1}, [PALETTE[0], (255, 255, 255), PALETTE[2]]),
    "p-half.png": (palette(), {"transparency": b"\x00\x80\xff"}, [(255, 255, 255), (147, 152, 157), PALETTE[2]]),
    "pa.tif": (palette("PA"), {}, PALETTE),
    "cmyk.tif": (Image.new("CMYK", (1, 1), (10, 20, 30, 40)), {}, [(207, 198, 190)]),
    "ycbcr.tif": (Image.new("YCbCr", (1, 1), (100, 120, 130)), {}, [(102, 101, 85)]),
    "animated.gif": (Image.new("RGB", (1, 1), "red"), {"save_all": True, "append_images": [Image.new("RGB", (1, 1))]},
                     [(255, 0, 0)]),
    "animated.webp": (Image.new("RGB", (1, 1), "red"),
                      {"save_all": True, "append_images": [Image.new("RGB", (1, 1))], "lossless": True}, [(255, 0, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_shown(name: str, tmp_path: Path) -> None:
    image, how, expected = CASES[name]
    image.save(tmp_path / name, **how)
    found = read(tmp_path / name)
    assert found.mode == ("RGB" if isinstance(expected[0], tuple) else "L")
    assert [tuple(pixel) if found.mode == "RGB" else pixel for pixel in np.asarray(found)[0].tolist()] == expected
    with image_file.opened(tmp_path / name) as header:
        assert image_file.is_grey(header) == (found.mode == "L")


def test_values_of_another_range_fill_the_bits(tmp_path: Path) -> None:
    (tmp_path / "ten bits.pgm").write_bytes(b"P5 2 1 1023\n\x00\x00\x03\xff")
    assert np.asarray(read(tmp_path / "ten bits.pgm")).tolist() == [[0, 255]]
    (tmp_path / "linear.pfm").write_bytes(b"Pf\n2 1\n-1.0\n" + np.array([0, 0.25], "<f4").tobytes())
    assert np.asarray(read(tmp_path / "linear.pfm")).tolist() == [[0, 64]]


@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "webp"])
def test_every_orientation_is_put_upright_once(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{extension}"
    stored = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("RGB").resize((24, 16))
    turned = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        stored.save(path, exif=exif)
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        turned[orientation] = np.asarray(read(path))
        np.testing.assert_array_equal(turned[orientation], expected)
    assert turned[6].shape == (24, 16, 3) and len({found.tobytes() for found in turned.values()}) == 8


def test_damaged_metadata_leave_the_pixels_as_they_are(tmp_path: Path) -> None:
    grey(3, 4).save(tmp_path / "photo.png", exif=b"Exif\x00\x00no such thing")
    assert np.asarray(read(tmp_path / "photo.png")).tolist() == [[3, 4]]


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])


def fractions(*values: float) -> Callable[[Path], None]:
    return lambda path: grey(*values, dtype=np.float32).save(path)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "i-negative.tif": (lambda p: grey(-1, 7, dtype=np.int32).save(p), "expected values from 0 to 65535, got -1 to 7"),
    "i-large.tif": (lambda p: grey(0, 65536, dtype=np.int32).save(p), "values from 0 to 65535, got 0 to 65536"),
    "i-of-8-or-16.tif": (lambda p: grey(0, 255, dtype=np.int32).save(p), "0 to 255 may be of 8 bits: convert it"),
    "f-between.tif": (fractions(0, 5.5), "expected 0 to 1, or whole numbers from 0 to 255, got 0 to 5.5; convert it"),
    "f-nan.tif": (fractions(0, float("nan")), "whole numbers from 0 to 255, got nan to nan"),
    "empty.png": (lambda p: p.write_bytes(b""), "no image, or of a format that pillow does not read"),
    "text.jpg": (lambda p: p.write_text("no image"), "no image, or of a format that pillow does not read"),
    "cut-off.png": (truncated, ""),
    "damaged.dds": (lambda p: p.write_bytes(b"DDS " + bytes(40)), ""),
    "damaged.avif": (lambda p: p.write_bytes(b"\x00\x00\x00\x1cftypavif" + bytes(60)), ""),
    "nowhere.png": (lambda p: None, "No such file or directory"),
    "folder.png": (lambda p: p.mkdir(), "Is a directory"),
    "pipe.png": (os.mkfifo, "expected a regular file"),
    "immense.pgm": (lambda p: p.write_bytes(b"P5 20000 20000 255\n"), "exceeds limit of 178956970 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_whatever_is_wrong_names_the_file_in_a_line(name: str, tmp_path: Path) -> None:
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(UnreadableImage) as caught:
        read(tmp_path / name)
    assert reason in caught.value.reason and caught.value.reason
    assert str(caught.value) == f"cannot read the image {tmp_path / name}: {caught.value.reason}; replace or remove it"
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_middle_is_that_of_the_resized_image() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 31), dtype=np.uint8))
    whole = image.resize((16, 25), Image.Resampling.BILINEAR)  # 25 of 25.8
    assert np.array_equal(np.asarray(middle(image, 16, 12, 12)), np.asarray(whole)[6:18, 2:14])
    assert np.array_equal(np.asarray(middle(image, 31, 50, 31)), np.asarray(image))  # as it is


def test_what_the_middle_wants_beyond_the_image_is_black() -> None:
    assert np.asarray(middle(Image.new("L", (2, 2), 9), 2, 2, 7)).tolist() == [[0, 0, 9, 9, 0, 0, 0]] * 2
    line = middle(Image.new("RGB", (1, 6000), (200, 10, 9)), 4, 2, 8)
    assert line.getpixel((1, 0)) == (0, 0, 0) and line.getpixel((2, 0)) == line.getpixel((5, 1)) == (200, 10, 9)


def test_a_long_image_is_cut_before_it_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 900, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    whole = np.asarray(middle(image, 20, 16, 24)).astype(int)
    made: list[int] = []
    original = Image.Image.resize

    def resize(self: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        made.append(size[0] * size[1])
        return original(self, size, *rest)

    monkeypatch.setattr(image_file, "_PLENTY", 0)
    monkeypatch.setattr(Image.Image, "resize", resize)
    cut = np.asarray(middle(image, 20, 16, 24)).astype(int)
    assert made == [16 * 24]  # of 6000 × 20
    assert cut.shape == whole.shape and np.abs(cut - whole).max() <= 1  # pillow rounds places to float32
