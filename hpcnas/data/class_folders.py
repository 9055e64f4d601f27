"""What lies in folders of images by class: DIR/train/<class>/* and, for the test, DIR/val or DIR/test likewise.

The layout and its order are those of torchvision's `ImageFolder`, hidden files and folders excepted. Links are followed.
A file has one name, however many links lead to it: the one at which it really lies, else the first; so a link that leads
back to where it came from brings nothing. A file that only links name, from two classes, is refused, since nobody can tell
which class it is of. Opens no image. Standard library alone, so that whoever only counts images needs nothing else.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from hpcnas.config.data_spec import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's list
_logger = logging.getLogger(__name__)


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders of a split, sorted; raises DataError unless there are two or more."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"expected {folder} to hold a folder of images for each class: {error.strerror}") from error
    if len(names) < 2:
        raise DataError(f"expected two class folders or more in {folder}, got {len(names)}")
    return tuple(names)


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """The classes of a split, sorted, each with the paths of its images relative to `folder`, at any depth.

    Raises DataError for fewer than two classes, a class without images, a file of two classes, and what cannot be looked
    through. Warns of names that were left out because they are links to images that have another name.
    """
    classes = class_names(folder)
    try:
        found = _Links(str(folder), classes)
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    images = {name: [] for name in classes} | {name: _ordered(found.files[name]) for name in classes}
    left_out = {name: sum(path.startswith(f"{name}/") for path in found.left_out) for name in classes}
    if found.left_out:
        _logger.warning(
            "%s: %d links lead to images that have another name there, such as %s: each image is taken once",
            folder, len(found.left_out), found.left_out[0],
        )  # fmt: skip
    for name, files in images.items():
        if not files:
            links = f" but {left_out[name]} links to images of other classes" if left_out[name] else " none"
            raise DataError(f"expected images ({', '.join(EXTENSIONS)}) in {folder / name}, got{links}")
    return images


def test_folder(root: Path, *names: str) -> Path:
    """The first of these folders in `root` that is there: what networks are tested on. Raises DataError where none is."""
    try:
        for name in names:
            if (root / name).is_dir():
                return root / name
    except OSError as error:
        raise DataError(f"cannot look through {root}: {error.strerror}") from error
    others = "".join(f" (or {root / name})" for name in names[1:])
    raise DataError(f"expected {root / names[0]}{others} to hold a folder of images for each class, to test on")


def require_same(training: tuple[str, ...], test: tuple[str, ...], train_folder: Path, test_folder: Path) -> None:
    """Raises DataError, which names classes that one of two folders lacks, unless they hold the same ones."""
    lacking = [
        f"{folder} lacks {_listed(names)}"
        for folder, names in (
            (test_folder, sorted(set(training) - set(test))),
            (train_folder, sorted(set(test) - set(training))),
        )
        if names
    ]
    if lacking:
        raise DataError(f"expected the same class folders in {train_folder} and {test_folder}; {', '.join(lacking)}")


class _Links:
    """All images below the class folders of a split, links resolved: first what really lies there, then what links bring.
    Raises OSError, DataError."""

    def __init__(self, folder: str, classes: tuple[str, ...]) -> None:
        self.files: dict[str, list[tuple[str, str]]] = {name: [] for name in classes}  # of each class: (parent, file)
        self.left_out: list[str] = []  # names of files and folders, relative to `folder`
        self._folder = folder
        self._known: dict[str, tuple[str, str]] = {}  # by a file's real path: its class and its name, if a link gave it
        self._plain: dict[str, set[str]] = {}  # by a real folder's path: names of the images that really lie there
        links: deque[tuple[str, str, bool]] = deque()  # class, path relative to `folder`, whether it is a folder
        for name in classes:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                links.append((name, name, True))
            else:
                self._take(name, name, os.path.realpath(path), links, linked=False)
        seen = {name: set(self._real[name]) for name in classes}
        while links:
            name, path, is_folder = links.popleft()
            real = os.path.realpath(os.path.join(folder, path))
            if not is_folder:
                self._take_link(name, path, real)
            elif real in seen[name]:
                self.left_out.append(path)
            else:
                seen[name].add(real)
                self._take(name, path, real, links, linked=True, seen=seen[name])

    def _take(self) -> None: ...


def _ordered(files: list[tuple[str, str]]) -> list[str]:
    return [f"{parent}/{file}" for parent, file in sorted(files)]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
