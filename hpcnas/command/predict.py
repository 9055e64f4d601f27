"""Tells what is on pictures: classifies image files with a retrained network, or with one exported as ONNX.

NETWORK is a retraining, its folder (of the least seed) or FOLDER:SEED; or a file that `hpcnas export onnx` has
written of one (needs onnxruntime). Where no training is complete, it is the one under way, as it was saved last. An
IMAGE may be a PNG or JPEG, or whatever pillow reads, of any size: it is read, resized and cropped as test images were.
Of a folder, all pictures in it are classified, at any depth. Probabilities are the softmax of the class scores.

Where the folders in a folder are classes of the network, as those of test images are, or a list says of which class its
images are, the last lines say how many are right, and of which classes; --confusion writes the confusion matrix. Such a
list is a FILE.csv with the columns file and label, as --csv writes them; its other columns do not count.

With --data, images are those of the test part of some data: of arrays:FILE.h5 the array test/images or, where there
is none, images. They are called by their numbers, and must be of the type, channels and size that were learnt.

A file that cannot be read is named and counted, and the others are classified; the exit code is then 1.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnas.command import common
from hpcnas.errors import Error
from hpcnas.storage.output import write_output

if TYPE_CHECKING:
    from hpcnas.analysis.confusion import Confusion
    from hpcnas.analysis.prediction import Classified, Model

MOST_CLASSES = 20  # of which each has a line


class WrongFile(Error):
    """A file that cannot be read or written: one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("network", metavar="NETWORK", help="folder of a retraining, or FILE.onnx of one")
    parser.add_argument("images", type=Path, nargs="*", default=[], metavar="IMAGE", help="image files, and folders")
    parser.add_argument("--list", type=Path, metavar="FILE", help="names of more, a line each; - is standard input")
    parser.add_argument("--data", metavar="DATA", help="the test images of these data, such as arrays:FILE.h5")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the results there too, a row a picture")
    parser.add_argument("--confusion", type=Path, metavar="FILE", help="write the confusion matrix there, as CSV")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to name (default 3)")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top: expected a number from 1, got {options.top}")
    names = [(path, "") for path in options.images]
    names += [] if options.list is None else listed(options.list)
    if not names and options.data is None:
        parser.error("expected an IMAGE, --list FILE that names some, or --data DATA")
    from hpcnas.analysis import prediction, tested  # torch: some seconds

    model = prediction.model(options.network)
    if model.remark is not None:
        print(model.remark, file=sys.stderr)
    found: list[Classified] = []
    if options.data is not None:
        found += prediction.classified_arrays(model, options.data)
    pictures = prediction.pictures(model, names) if names else []
    if options.confusion is not None and all(one.label is None for one in (*pictures, *(one.picture for one in found))):
        parser.error("--confusion: expected images in folders of classes, or a list FILE.csv with labels")
    for one in prediction.classified(model, pictures):
        found.append(one)
        if one.problem is not None:
            print(f"{one.picture.file}: {one.problem}", file=sys.stderr)
    results = [as_record(model, one, options.top) for one in found]
    readable = [record for record in results if "classes" in record]
    if options.csv is not None:
        write_csv(options.csv, results, min(options.top, len(model.class_names)))
    counts = prediction.confusion_of(model, found)
    if options.confusion is not None:
        write_text(options.confusion, tested.confusion_table(counts, model.class_names))
    if options.json:
        common.print_json(readable)
    elif readable:
        print(as_table(readable))
    if len(counts.counts):
        if not options.json:
            print(f"\n{class_table(counts, model)}\n")
        print(accuracy(counts), file=sys.stderr if options.json else sys.stdout)
    if len(results) > len(readable):
        print(f"{len(results) - len(readable):,} of {len(results):,} images cannot be read", file=sys.stderr)
    return 0 if len(readable) == len(results) else 1


def listed(file: Path) -> list[tuple[Path, str]]:
    """The paths that a file names, of any bytes, one a line; of FILE.csv those in its column `file`, each with what is
    in its column `label`, if it has one. Raises WrongFile."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise WrongFile(f"{file}: expected a file with a name a line: {error.strerror}") from error
    if file.suffix.lower() != ".csv":
        return [(Path(os.fsdecode(line)), "") for line in data.splitlines() if line.strip()]
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline=""))
    try:
        if "file" not in (rows.fieldnames or ()):
            raise WrongFile(f"{file}: expected columns file and, if known, label in its first line")
        return [(Path(row["file"]), row.get("label") or "") for row in rows if row["file"]]
    except csv.Error as error:
        raise WrongFile(f"{file}: expected CSV: line {rows.line_num}: {error}") from error


def as_record(model: Model, one: Classified, most: int) -> dict[str, Any]:
    """A picture as JSON has it: file, the class that its folder says, and the most probable classes or the error."""
    from hpcnas.analysis import prediction

    record: dict[str, Any] = {"file": str(one.picture.file)}
    if one.picture.label is not None:
        record["label"] = one.picture.label
    if isinstance(one.result, Exception):
        return record | {"error": one.problem}
    return record | {"classes": prediction.best(model, one.result, most)}


def accuracy(counts: Confusion) -> str:
    """How many pictures are right, of those that can be read and whose class is known."""
    right, images = int(counts.right.sum()), int(counts.images.sum())
    return f"accuracy {right / images:.4f}: {right:,} of {images:,} images are of their class"


def class_table(counts: Confusion, model: Model) -> str:
    """A line for each class of which there are images, of many those of the lowest accuracies."""
    accuracies, images, right = counts.accuracies, counts.images, counts.right
    known = [number for number in range(counts.classes) if images[number]]
    shown = known if len(known) <= MOST_CLASSES else counts.worst(MOST_CLASSES)
    header = ("class" if shown is known else f"worst of {len(known):,} classes", "images", "correct", "%")
    rows = [
        (model.class_names[one], f"{images[one]:,}", f"{right[one]:,}", f"{100 * accuracies[one]:.1f}") for one in shown
    ]
    return common.table(header, rows)


def write_text(file: Path, text: str) -> None:
    """Names keep their bytes. Raises WrongFile."""
    try:
        write_output(file, text)
    except OSError as error:
        raise WrongFile(f"{file}: expected to write it: {error.strerror}") from error


def write_csv(file: Path, results: Sequence[dict[str, Any]], most: int) -> None:
    """A row for each picture: file, label, error, then classes and their probabilities, the most probable first. Names
    keep their bytes. Raises WrongFile."""
    from hpcnas.analysis import csv_text

    columns = [f"{what}_{place}" for place in range(1, most + 1) for what in ("class", "probability")]
    rows = []
    for one in results:
        values = [value for c in one.get("classes", []) for value in (c["class"], c["probability"])]
        known = [one.get(key) for key in ("file", "label", "error")]
        rows.append([*known, *values, *[None] * (len(columns) - len(values))])
    write_text(file, csv_text.table(["file", "label", "error", *columns], rows))


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """A line an image: each class with its probability in percent."""
    most = len(results[0]["classes"])
    header = ("image", *(cell for place in range(1, most + 1) for cell in (f"class {place}", "%")))
    rows = [
        (one["file"], *(cell for c in one["classes"] for cell in (c["class"], f"{100 * c['probability']:.1f}")))
        for one in results
    ]
    return common.table(header, rows)
