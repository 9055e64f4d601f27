"""Hands out what a search has found, for use without hpcnas.

  text     a genotype as TOML, to read, to edit and to give to other tools
  module   a genotype as a Python file with its network, which needs torch alone and has the same state_dict
  onnx     a genotype's network as ONNX (needs onnx); batch, height and width are free
  weights  what a retraining has learnt: the network's state_dict, which the module loads
  csv      the table of a run: an individual a row, in the order of birth; columns are those of hpcnas/FORMAT.md, and
           `evaluation` is the place in the order of evaluations; of a retraining its curves, a row for each step at
           which there is anything, `validation_` before the columns of its validations
  classes, confusion, predictions
           what a retraining says of the test images, as CSV: the accuracy of each class; the confusion matrix, a row a
           class and a column for what its images were taken for; or a row an image, with the five most probable classes

SOURCE is RUN (its best individual), RUN:ID, FILE.toml, or `paper`, the paper's cell; for csv it is RUN or a retraining.
A run may be under way. Without --output, text goes to the terminal. A search keeps no weights: those of its ONNX file
are random unless --weights names a state_dict of the network, say of the module, trained elsewhere.

SOURCE may also be a retraining: its folder (of the least seed) or FOLDER:SEED. Then the module is the large network;
its `load(FILE)` takes what `weights` writes, and gives a network that takes pixels as they are. So does the ONNX file,
which has the weights inside. Where no training is complete, they have the weights of the one under way as it was saved
last, and where FOLDER:SEED names that one: a line says after which step. What has diverged is never handed out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import export, retrainings, runs, tested, training_curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.skeleton import STEMS
from hpcnas.command import common
from hpcnas.storage.output import write_output

OF_NETWORKS, OF_TESTS = ("text", "module", "onnx", "weights"), ("classes", "confusion", "predictions")
NETWORK = ("channels", "cells", "stem", "classes", "image_channels")  # what may be asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes what was asked for and says so; the exit code."""
    options = parse(arguments)
    said: dict[str, object] = {"format": options.format}
    text = ""
    if options.format in ("onnx", "weights") and options.output is None:
        raise AnalysisError(f"expected --output FILE: what {options.format} writes is no text")
    try:
        if options.format == "csv":
            text, rows = table(Path(options.source))
            said |= rows
        elif options.format in OF_TESTS:
            text, rows = table_of_tests(options.format, options.source)
            said |= rows
        else:
            found = export.source(options.source)
            if options.weights is not None:
                export.require_untrained(found)
            found = export.in_network(found, **asked(options))
            if found.learnt is not None and found.learnt.remark is not None and options.format != "text":
                print(found.learnt.remark, file=sys.stderr)
            said |= found.facts | {"parameters": export.parameters(found)}
            if options.format == "onnx":
                export.write_onnx(found, options.output, options.weights, options.seed)
            elif options.format == "weights":
                export.copy_weights(found, options.output)
            else:
                text = export.module(found) if options.format == "module" else found.genotype.text()
        if text and options.output is not None:
            write_output(options.output, text)
    except OSError as error:
        raise AnalysisError(f"{options.output}: expected to write it: {error.strerror or error}") from error
    if options.json:
        common.print_json(said | ({"text": text} if options.output is None else {"output": str(options.output)}))
    elif options.output is None:
        sys.stdout.write(text)
    else:
        print(f"{options.output}: {', '.join(f'{name} {value}' for name, value in said.items())}")
    return 0


def table(folder: Path) -> tuple[str, dict[str, int]]:
    """A run or the curves of a retraining as CSV, and how many rows of what there are. Raises AnalysisError."""
    if retrainings.is_one(folder):
        text = training_curves.csv_table(retrainings.load(folder).stored)
        return text, {"rows": text.count("\n") - 1}
    run = runs.load(folder)
    return export.csv_table(run), {"individuals": len(run.population)}


def table_of_tests(format: str, source: str) -> tuple[str, dict[str, int]]:
    """What a training says of the test images as CSV, and how many rows there are. Raises AnalysisError."""
    found = tested.named(source)
    if format == "predictions":
        text = tested.table(found)
    elif format == "classes":
        text = tested.class_table(found.confusion, found.class_names)
    else:
        text = tested.confusion_table(found.confusion, found.class_names)
    rows = len(found.predictions.images) if format == "predictions" else len(found.class_names)
    return text, {"seed": found.seed, "rows": rows}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the user asks for."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("format", choices=(*OF_NETWORKS, "csv", *OF_TESTS), metavar="FORMAT", help="what to write")
    parser.add_argument("source", metavar="SOURCE", help="RUN, RUN:best, RUN:ID, FILE.toml, paper or RETRAINING:SEED")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: to the terminal)"
    )
    network = parser.add_argument_group("network (module: what Network() is; default: the network of the search)")
    for name in ("channels", "classes", "image-channels"):
        network.add_argument(f"--{name}", type=positive, metavar="N")
    network.add_argument("--cells", type=positive, nargs="+", metavar="N", help="of each group")
    network.add_argument("--stem", choices=STEMS, help="what stands before the first cell")
    weights = parser.add_argument_group("weights (onnx of what was not retrained)")
    weights.add_argument("--weights", type=Path, metavar="FILE", help="a state_dict, saved by torch.save")
    weights.add_argument("--seed", type=int, default=0, metavar="S", help="of random weights (default: 0)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """An argparse type: 1, 2, …"""
    if not re.fullmatch(r"0*[1-9]\d{0,6}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def asked(options: argparse.Namespace) -> dict[str, object]:
    """What was said of the network."""
    found = {name: value for name in NETWORK if (value := getattr(options, name)) is not None}
    if "cells" in found:
        found["cells"] = tuple(found["cells"])
    return found
