"""Tells what is on pictures: classifies image files with a retrained network, or with one exported as ONNX.

NETWORK is a retraining, its folder (of the least seed) or FOLDER:SEED; or a file that `hpcnas export onnx` has
written of one (needs onnxruntime). An image file may be a PNG or JPEG, or whatever pillow reads, of any size: it is
resized and cropped as test images were. Probabilities are the softmax of the class scores.

A file that cannot be read is named, and the others are classified; the exit code is then 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("network", metavar="NETWORK", help="folder of a retraining, or FILE.onnx of one")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to name (default 3)")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top: expected a number from 1, got {options.top}")
    from hpcnas.analysis import prediction  # which imports torch: some seconds

    model = prediction.model(options.network)
    results = []
    for file, probabilities in prediction.classified(model, options.images):
        if isinstance(probabilities, OSError):
            print(f"{file}: {probabilities.strerror or probabilities}", file=sys.stderr)
        else:
            results.append({"file": str(file), "classes": prediction.best(model, probabilities, options.top)})
    if options.json:
        common.print_json(results)
    elif results:
        print(as_table(results))
    return 0 if len(results) == len(options.images) else 1


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """A line an image: each class with its probability in percent."""
    most = len(results[0]["classes"])
    header = ("image", *(cell for place in range(1, most + 1) for cell in (f"class {place}", "%")))
    rows = [
        (one["file"], *(cell for c in one["classes"] for cell in (c["class"], f"{100 * c['probability']:.1f}")))
        for one in results
    ]
    return common.table(header, rows)
