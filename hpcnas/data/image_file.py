"""One image file as everything sees it: search, retraining, test and `predict` read images by this file alone.

    file ─► first frame ─► 8 bits a channel ─► over the background ─► upright ─► grey (L) or colour (RGB)

    mode                     what becomes of it
    1, L, RGB                as it is
    P, CMYK, YCbCr, LAB, HSV RGB, as pillow converts it
    LA, PA, RGBA, and where  over BACKGROUND, white: what a page shows where the image is transparent
      a colour is transparent
    I;16                     the high byte, as pillow takes it of 16 bits in colour; of 12 bits the upper 8
    I                        0 to 65535, likewise. Refused: other values, and those below 256 where the format does not
                             tell whether they are of 8 or of 16 bits
    F                        0 to 1, or whole numbers from 0 to 255. Refused: others, such as NaN

Upright is what EXIF or XMP says of the orientation; where that cannot be read, the image is as it is stored, which is
how viewers show it. Sizes are bounded: pillow refuses images of more than 179 million pixels, and `middle` never makes
many more pixels than are seen. Whatever goes wrong with a file is UnreadableImage, which names it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND = 255  # of each channel: white
_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_PLENTY = 2**22  # pixels that a resized image may always have
_quiet = False  # whether pillow's warnings are turned off


class UnreadableImage(DataError):
    """A file whose image cannot be had: which file, and why."""

    def __init__(self, file: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"cannot read the image {os.fspath(file)}: {reason}; replace or remove it")
        self.file, self.reason = file, reason

    def __reduce__(self) -> Any:  # which a loader process sends as a pickle
        return UnreadableImage, (self.file, self.reason)


@contextlib.contextmanager
def opened(file: str | os.PathLike[str]) -> Iterator[Image]:
    """The file's image, of which only the header is read yet. Raises UnreadableImage for whatever goes wrong within,
    but for other DataErrors and MemoryError."""
    import PIL.Image

    _hush()
    try:
        with open(file, "rb", opener=_open) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UnreadableImage(file, "expected a regular file")
            with PIL.Image.open(stream) as image:
                yield image
    except (DataError, MemoryError):
        raise
    except PIL.UnidentifiedImageError as error:
        raise UnreadableImage(file, "no image, or of a format that pillow does not read") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, RuntimeError and others
        raise UnreadableImage(file, _reason(error)) from error


def read(file: str | os.PathLike[str]) -> Image:
    """What the file shows: mode L where it is grey, else RGB. Raises UnreadableImage."""
    with opened(file) as image:
        return shown(image)


def is_grey(image: Image) -> bool:
    """Whether the image of a file is shown as grey; its header tells."""
    return image.mode in _GREY


def shown(image: Image) -> Image:
    """What the first frame of an opened image shows (see `read`). Raises ValueError for values that have no meaning as
    grey, and whatever pillow raises."""
    import PIL.Image

    image.load()
    turned = _orientation(image)
    plain, alpha = _from_numbers(image) if image.mode[0] in "IF" else _from_bytes(image)
    if alpha is not None:
        ground = PIL.Image.new(plain.mode, plain.size, (BACKGROUND,) * len(plain.getbands()))
        plain = PIL.Image.composite(plain, ground, alpha)
    return plain if turned is None else plain.transpose(turned)


def middle(image: Image, resize: int, height: int, width: int) -> Image:
    """The part of an image that a network is tested on: width × height pixels, of the image's mode.

    The shorter side is resized to `resize` pixels (bilinear, antialiased), unless it has them, and the middle is taken;
    what that wants beyond the image is black. Of an image that is much longer than wide, only what is seen is resized.
    """
    import PIL.Image

    long, short = max(image.size), min(image.size)
    sides = resize, int(resize * long / short)
    full_width, full_height = sides if image.width <= image.height else sides[::-1]
    left, top = _start(full_width, width), _start(full_height, height)
    bilinear = PIL.Image.Resampling.BILINEAR
    if full_width * full_height <= max(4 * width * height, _PLENTY):
        whole = image.resize((full_width, full_height), bilinear) if (full_width, full_height) != image.size else image
        return whole.crop((left, top, left + width, top + height))
    columns = max(0, left), min(full_width, left + width)
    rows = max(0, top), min(full_height, top + height)
    across, down = image.width / full_width, image.height / full_height
    box = columns[0] * across, rows[0] * down, columns[1] * across, rows[1] * down
    part = image.resize((columns[1] - columns[0], rows[1] - rows[0]), bilinear, box)
    return part.crop((min(0, left), min(0, top), min(0, left) + width, min(0, top) + height))


def pixels(image: Image) -> NDArray[np.uint8]:
    """uint8 (H, W, C) of an image of mode L or RGB."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def from_pixels(pixels: NDArray[np.uint8]) -> Image:
    """An image of mode L or RGB of its pixels, uint8 (H, W, 1 or 3)."""
    import PIL.Image

    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _start(full: int, wanted: int) -> int:
    """Where the middle begins; below 0 where it is larger than the whole, as torchvision's CenterCrop has it."""
    return round((full - wanted) / 2) if full >= wanted else -((wanted - full) // 2)


def _from_bytes(image: Image) -> tuple[Image, Image | None]:
    """Grey or colour without transparency, and the opacity, mode L, where there is transparency."""
    mode = "L" if is_grey(image) else "RGB"
    if image.mode not in _TRANSPARENT and "transparency" not in image.info:
        return image.convert(mode), None
    whole = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return whole.convert(mode), whole.getchannel("A")


def _from_numbers(image: Image) -> tuple[Image, Image | None]:
    """Likewise of numbers of more than 8 bits. Raises ValueError."""
    import PIL.Image

    values = np.asarray(image)
    opacity = None
    if (clear := image.info.get("transparency")) is not None:
        opacity = PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    if image.mode == "F":
        grey = _grey_of_fractions(values)
    else:
        if image.mode == "I":
            _check_integers(values, told=image.format in ("PNG", "PPM"))
        tags: Any = getattr(image, "tag_v2", {})  # of a TIFF
        bits = 12 if tags.get(258) == (12,) else 16
        grey = values >> (bits - 8)
        if image.mode != "I" and tags.get(262) == 0:  # 0 is white, which pillow heeds for 8 bits alone
            grey = 255 - grey
    return PIL.Image.fromarray(grey.astype(np.uint8)), opacity


def _grey_of_fractions(values: NDArray[Any]) -> NDArray[Any]:
    low, high = float(values.min()), float(values.max())
    if 0 <= low and high <= 1:
        return np.floor(values * 255.0 + 0.5)
    if 0 <= low and high <= 255 and (values == np.floor(values)).all():
        return values
    raise ValueError(f"expected 0 to 1, or whole numbers from 0 to 255, got {low:g} to {high:g}; convert it to 8 bits")


def _check_integers(values: NDArray[Any], told: bool) -> None:
    """`told`: the format says that they are of 16 bits."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"expected values from 0 to 65535, got {low} to {high}; convert it to 8 or 16 bits")
    if not told and 0 < high <= 255:
        raise ValueError(
            f"expected values of 16 bits, 0 to 65535; {low} to {high} may be of 8 bits: convert it to 8 or 16"
        )


def _orientation(image: Image) -> Any:
    """How the stored pixels are to be turned, one of pillow's Transpose; None: not at all."""
    from PIL.Image import Transpose

    try:
        said = image.getexif().get(0x0112)
    except Exception:  # damaged metadata: the pixels are what they are
        return None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(said) if isinstance(said, int) else None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for its writer


def _reason(error: Exception) -> str:
    """In one line."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(said.split()) or type(error).__name__


def _hush() -> None:
    """Turns off what pillow warns of in this process: metadata, and sizes that it takes all the same."""
    global _quiet
    if not _quiet:
        _quiet = True
        warnings.filterwarnings("ignore", module=r"PIL\.")
