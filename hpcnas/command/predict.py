"""Tells what is on pictures: classifies image files with a retrained network, or with one exported as ONNX.

NETWORK is a retraining, its folder (of the least seed) or FOLDER:SEED; or a file that `hpcnas export onnx` has
written of one (needs onnxruntime). An IMAGE may be a PNG or JPEG, or whatever pillow reads, of any size: it is read,
resized and cropped as test images were. Of a folder, all pictures in it are classified, at any depth; where its folders
are classes of the network, such as those of the test images, the last line says how many are right. Probabilities are
the softmax of the class scores.

A file that cannot be read is named and counted, and the others are classified; the exit code is then 1.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnas.command import common
from hpcnas.errors import Error

if TYPE_CHECKING:
    from hpcnas.analysis.prediction import Classified, Model


class WrongFile(Error):
    """A file that cannot be read or written: one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("network", metavar="NETWORK", help="folder of a retraining, or FILE.onnx of one")
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="image files, and folders of them")
    parser.add_argument("--list", type=Path, metavar="FILE", help="names of more, one a line; - is standard input")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the results there too, a row a picture")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to name (default 3)")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top: expected a number from 1, got {options.top}")
    paths = [*options.images, *([] if options.list is None else listed(options.list))]
    if not paths:
        parser.error("expected an IMAGE, or --list FILE that names some")
    from hpcnas.analysis import prediction  # which imports torch: some seconds

    model = prediction.model(options.network)
    found: list[Classified] = []
    for one in prediction.classified(model, prediction.pictures(model, paths)):
        found.append(one)
        if one.problem is not None:
            print(f"{one.picture.file}: {one.problem}", file=sys.stderr)
    results = [as_record(model, one, options.top) for one in found]
    readable = [record for record in results if "classes" in record]
    if options.csv is not None:
        write_csv(options.csv, results, min(options.top, len(model.class_names)))
    if options.json:
        common.print_json(readable)
    elif readable:
        print(as_table(readable))
    if (said := accuracy(model, found)) is not None:
        print(said, file=sys.stderr if options.json else sys.stdout)
    if len(results) > len(readable):
        print(f"{len(results) - len(readable):,} of {len(results):,} images cannot be read", file=sys.stderr)
    return 0 if len(readable) == len(results) else 1


def listed(file: Path) -> list[Path]:
    """The paths that a file names, one a line, of any bytes. Raises WrongFile."""
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise WrongFile(f"{file}: expected a file with a name a line: {error.strerror}") from error
    return [Path(os.fsdecode(line)) for line in text.splitlines() if line.strip()]


def as_record(model: Model, one: Classified, most: int) -> dict[str, Any]:
    """A picture as JSON has it: file, the class that its folder says, and the most probable classes or the error."""
    from hpcnas.analysis import prediction

    record: dict[str, Any] = {"file": str(one.picture.file)}
    if one.picture.label is not None:
        record["label"] = one.picture.label
    if isinstance(one.result, Exception):
        return record | {"error": one.problem}
    return record | {"classes": prediction.best(model, one.result, most)}


def accuracy(model: Model, found: Sequence[Classified]) -> str | None:
    """How many pictures are right, of those that can be read and whose folder is a class; None where there are none."""
    judged = [right for one in found if (right := one.right(model)) is not None]
    if not judged:
        return None
    share = sum(judged) / len(judged)
    return f"accuracy {share:.4f}: {sum(judged):,} of {len(judged):,} images are of their folder's class"


def write_csv(file: Path, results: Sequence[dict[str, Any]], most: int) -> None:
    """A row for each picture: file, label, error, then classes and their probabilities, the most probable first. Names
    keep their bytes. Raises WrongFile."""
    columns = [f"{what}_{place}" for place in range(1, most + 1) for what in ("class", "probability")]
    try:
        with open(file, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            writer = csv.DictWriter(stream, ["file", "label", "error", *columns], lineterminator="\n")
            writer.writeheader()
            for one in results:
                values = [value for c in one.get("classes", []) for value in (c["class"], c["probability"])]
                known = {key: one[key] for key in ("file", "label", "error") if key in one}
                writer.writerow(known | dict(zip(columns, values, strict=False)))
    except OSError as error:
        raise WrongFile(f"{file}: expected to write it: {error.strerror}") from error


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """A line an image: each class with its probability in percent."""
    most = len(results[0]["classes"])
    header = ("image", *(cell for place in range(1, most + 1) for cell in (f"class {place}", "%")))
    rows = [
        (one["file"], *(cell for c in one["classes"] for cell in (c["class"], f"{100 * c['probability']:.1f}")))
        for one in results
    ]
    return common.table(header, rows)
