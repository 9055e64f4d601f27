"""What lies in folders of images by class: DIR/train/<class>/* and, for the test, DIR/val or DIR/test likewise; what a
retraining is validated on while it trains may lie in DIR/validation.

The layout and its order are those of torchvision's `ImageFolder`, hidden files and folders excepted. Links are
followed. A file has one name, however many links lead to it: the one at which it really lies, else the first; so a link
that leads back brings nothing. A file that links alone name, and from two classes, is refused, since nobody can tell
which class it is of. Opens no image. Standard library alone: whoever only counts images needs nothing else.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path

from hpcnas.config.data_spec import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's list
PICTURES = (*EXTENSIONS, ".apng", ".avif", ".gif", ".jfif", ".jp2")  # what else a folder of any pictures may hold
VALIDATION = "validation"
_logger = logging.getLogger(__name__)


def class_names(folder: Path, least: int = 2) -> tuple[str, ...]:
    """The class folders of a split, sorted; raises DataError unless there are that many."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"expected {folder} to hold a folder of images for each class: {error.strerror}") from error
    if len(names) < least:
        raise DataError(f"expected two class folders or more in {folder}, got {len(names)}")
    return tuple(names)


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """The classes of a split, sorted, each with the paths of its images relative to `folder`, at any depth.

    Raises DataError for fewer than two classes, a class without images, a file of two classes, and what cannot be
    looked through. Warns of names that were left out because they are links to images that have another name.
    """
    classes = class_names(folder)
    try:
        found = _Found(str(folder), classes, EXTENSIONS)
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    if found.left_out:
        _logger.warning(
            "%s: %d names lead by links to images that have another name there, such as %s: each image is taken once",
            folder, len(found.left_out), found.left_out[0],
        )  # fmt: skip
    images = {name: found.of_class(name) for name in classes}
    for name, files in images.items():
        if not files:
            raise DataError(f"expected images ({', '.join(EXTENSIONS)}) in {folder / name}, got none")
    return images


def pictures(folder: Path) -> list[str]:
    """Paths of all pictures in a folder of any kind, relative to it, at any depth, each file once. Raises DataError
    where there are none, or it cannot be looked through."""
    try:
        found = _Found(str(folder), (".",), PICTURES).of_class(".")
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error.strerror}") from error
    if not found:
        raise DataError(f"expected pictures ({', '.join(PICTURES)}) in {folder}, got none")
    return [path.removeprefix("./") for path in found]


def test_folder(root: Path, *names: str) -> Path:
    """The first of these folders in `root` that is there: what networks are tested on. Raises DataError for none."""
    try:
        for name in names:
            if (root / name).is_dir():
                return root / name
    except OSError as error:
        raise DataError(f"cannot look through {root}: {error.strerror}") from error
    others = "".join(f" (or {root / name})" for name in names[1:])
    raise DataError(f"expected {root / names[0]}{others} to hold a folder of images for each class, to test on")


def validation_folder(root: Path) -> Path | None:
    """`root/validation`, which is not `root/val`; None where there is no such folder. Raises DataError."""
    try:
        return root / VALIDATION if (root / VALIDATION).is_dir() else None
    except OSError as error:
        raise DataError(f"cannot look through {root}: {error.strerror}") from error


def require_same(training: Path, test: Path) -> None:
    """Raises DataError, which names the classes that one of two folders lacks, unless they hold the same ones."""
    learnt, tested = set(class_names(training)), set(class_names(test, least=0))
    lacking = [
        f"{folder} lacks {_listed(sorted(names))}"
        for folder, names in ((test, learnt - tested), (training, tested - learnt))
        if names
    ]
    if lacking:
        raise DataError(f"expected the same class folders in {training} and {test}, but {', '.join(lacking)}")


class _Found:
    """The images below the class folders of a split: first what really lies there, then what links bring. Raises
    OSError, DataError."""

    def __init__(self, folder: str, classes: tuple[str, ...], endings: tuple[str, ...]) -> None:
        self.left_out: list[str] = []  # names of files and folders that have another name, relative to `folder`
        self._folder, self._endings = folder, endings
        self._files: dict[str, dict[str, list[str]]] = {name: {} for name in classes}  # class → parent → files
        self._own: set[str] = set()  # real paths of the folders that really lie in a class
        self._seen: dict[str, set[str]] = {name: set() for name in classes}  # likewise of those that links lead to
        self._linked: dict[str, str] = {}  # by real path: the name of a file that links alone give one
        self._links: deque[tuple[str, str, bool]] = deque()  # class, name, whether it is a folder's; to be followed
        self._parents: dict[str, str] = {}  # real paths of folders
        for name in classes:
            if os.path.islink(os.path.join(folder, name)):
                self._links.append((name, name, True))
            else:
                self._walk(name, name, os.path.realpath(os.path.join(folder, name)), linked=False)
        while self._links:
            name, path, is_folder = self._links.popleft()
            real = self._real(path)
            if is_folder:
                self._walk(name, path, real, linked=True)
            else:
                self._take_linked(name, path, real)

    def of_class(self, name: str) -> list[str]:
        """In torchvision's order."""
        found = sorted(self._files[name].items())
        return [f"{parent}/{file}" for parent, files in found for file in sorted(files)]

    def _walk(self, name: str, path: str, real: str, linked: bool) -> None:
        """Takes the images of a folder, `path` in the split and `real` on the disk, and of those in it."""
        waiting = [(path, real)]
        while waiting:
            path, real = waiting.pop()
            known = self._seen[name] if linked else self._own
            if linked and (real in known or real in self._own):
                self.left_out.append(path)
                continue
            known.add(real)
            with os.scandir(os.path.join(self._folder, path)) as entries:
                found = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
            for entry in found:
                child = f"{path}/{entry.name}"
                is_folder = entry.is_dir()
                if not is_folder and not self._is_image(entry.name):
                    continue
                if entry.is_symlink():
                    self._links.append((name, child, is_folder))
                elif is_folder:
                    waiting.append((child, f"{real}/{entry.name}"))
                elif linked:
                    self._take_linked(name, child, f"{real}/{entry.name}")
                else:
                    self._files[name].setdefault(path, []).append(entry.name)

    def _take_linked(self, name: str, path: str, real: str) -> None:
        """Takes a file that a link has led to, unless it has another name."""
        folder, file = os.path.split(real)
        other = self._linked.get(real)
        if folder in self._own and self._is_image(file):
            self.left_out.append(path)
        elif other is None:
            self._linked[real] = path
            parent, file = os.path.split(path)
            self._files[name].setdefault(parent, []).append(file)
        elif other.startswith(f"{name}/"):
            self.left_out.append(path)
        else:
            raise DataError(f"expected each image in one class, but {other} and {path} in {self._folder} are one file")

    def _is_image(self, name: str) -> bool:
        return name.lower().endswith(self._endings) and name[0] != "."

    def _real(self, path: str) -> str:
        """Where a link leads; looks at its folder once for all that lies there."""
        whole = os.path.join(self._folder, path)
        folder, file = os.path.split(os.path.join(os.path.dirname(whole), os.readlink(whole)))
        if file in ("", ".", ".."):
            return os.path.realpath(whole)
        if folder not in self._parents:
            self._parents[folder] = os.path.realpath(folder)
        real = os.path.join(self._parents[folder], file)
        return os.path.realpath(real) if os.path.islink(real) else real


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
