#!/usr/bin/env python3
"""Hands out what a search has found, for use without hpcnas.

  text     a genotype as TOML, to read, to edit and to give to other tools
  module   a genotype as a Python file with its network, which needs torch alone and has the same state_dict
  onnx     a genotype's network as ONNX (needs onnx); batch, height and width are free
  weights  what a retraining has learnt: the network's state_dict, which the module loads
  csv      the table of a run: an individual a row, in the order of birth; columns are those of hpcnas/FORMAT.md, and
           `evaluation` is the place in the order of evaluations

SOURCE is RUN (its best individual), RUN:ID, FILE.toml, or `paper`, the paper's cell; for csv it is RUN. A run may be
under way. Without --output, text goes to the terminal. A search keeps no weights: those of its ONNX file are random
unless --weights names a state_dict of the network, say of the module, trained elsewhere.

SOURCE may also be a retraining: its folder (of the least seed) or FOLDER:SEED. Then the module is the large network;
its `load(FILE)` takes what `weights` writes, and gives a network that takes pixels as they are. So does the ONNX file,
which has the weights inside.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import math
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import toolkit

from hpcnas import __version__
from hpcnas.analysis import exported_module, retrainings
from hpcnas.architecture import expansion, primitives, sizes
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import STEMS, Skeleton
from hpcnas.evolution.individuals import COLUMNS
from hpcnas.retrain.record_file import Inputs
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import sealed

NETWORK = ("channels", "cells", "stem", "classes", "image_channels")  # what may be asked for
PAPER = Skeleton(image_channels=3, height=32, width=32, classes=10, channels=16, cells=(1, 1, 1), stem="plain")


@dataclass(frozen=True)
class Weights:
    """What a training has learnt, and how its network is fed."""

    file: Path
    inputs: Inputs


@dataclass(frozen=True)
class Source:
    """A genotype, where it comes from in words, and the network that it was evaluated or trained in."""

    origin: str
    quality: tuple[str, str]  # what was measured, and how much it is
    genotype: Genotype
    skeleton: Skeleton
    learnt: Weights | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What is known about it, for people."""
        name, value = self.quality
        return {"hpcnas": __version__, "genotype": self.origin, name: value}


def source(text: str) -> Source:
    """What RUN, RUN:ID, RUN:SEED, FILE.toml or `paper` names; ends the tool where there is none."""
    if retrainings.names_one(text):
        return retrained(text)
    if text.endswith(".toml") or (text == "paper" and not Path(text).exists()):
        _, genotype = toolkit.named_genotype(text)
        origin = "the paper's best cell (Appendix A)" if text == "paper" else f"the file {Path(text).name}"
        return Source(origin, ("fitness", "unknown"), genotype, PAPER)
    folder, run, id = toolkit.individual(text)
    skeleton = run.config.skeleton(run.sessions[-1].facts) if run.sessions else PAPER
    origin = f"individual {id} of the run {folder.resolve().name}"
    return Source(origin, ("fitness", fitness(run, id)), run.population.individual(id).genotype, skeleton)


def retrained(text: str) -> Source:
    """What a retraining has found for one seed."""
    found, training = retrainings.trained(text)
    stored = found.stored
    origin = f"the retraining {found.folder.resolve().name} of {stored.origin.source}, seed {training.seed}"
    accuracy = f"{training.test_accuracy:.4f} on {training.test_images:,} test images"
    if len(found.complete) > 1:
        accuracy += f" (all {len(found.complete)} seeds: {retrainings.mean_and_std(stored.test_accuracies)})"
    weights = Weights(found.weights(training), stored.inputs)
    return Source(origin, ("accuracy", accuracy), stored.genotype, stored.inputs.skeleton, weights)


def fitness(run: StoredRun, id: int) -> str:
    """The fitness in words."""
    measured = float(run.population.column("fitness")[id])
    if math.isnan(measured):
        return "not evaluated"
    accuracies = run.population.pooled(id)
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    kind = "synthetic, no training" if run.config.evaluation.evaluator == "synthetic" else "validation accuracy"
    return f"{measured:.4f}{spread} ({kind}; trainings: {len(accuracies)})"


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────
def module(found: Source) -> str:
    """The Python file's text; ends the tool for a primitive that the file would not have."""
    for name in sorted({primitives.name(edge.operation) for edge in graph(found).edges}):
        if name not in primitives.NAMES:
            toolkit.fail(f"expected a network of the paper's primitives, but {name} is a plugin's")
    name, value = found.quality
    told = f"The network of {found.origin}.", f"{name.capitalize()}: {value}"
    return exported_module.text(found.genotype, found.skeleton, *told, found.learnt.inputs if found.learnt else None)


# ── the network as ONNX, and weights ────────────────────────────────────────────────────────────────────────────────
def onnx(found: Source, given: Path | None, seed: int, output: Path) -> None:
    """Writes the network's file; ends the tool where something that it needs is missing."""
    try:
        import onnx as library
    except ImportError:
        toolkit.fail("expected the package onnx; install it with: pip install onnx")
    import warnings

    import torch

    from hpcnas.analysis.classifier import Classifier, load_weights
    from hpcnas.training.network import Network

    torch.manual_seed(seed)
    network = Network(graph(found), found.skeleton)
    weights = found.learnt.file if found.learnt is not None else given
    if weights is not None:
        load_weights(network, weights)
    exported: torch.nn.Module = network
    properties = {**found.facts, "codes": found.genotype.codes.hex()}
    properties["weights"] = "random" if weights is None else weights.name
    if found.learnt is not None:
        inputs = found.learnt.inputs
        exported = Classifier(network, inputs)
        properties |= {"input": "pixels, 0 to 255", "resize": str(inputs.resize)}
        properties |= {"height": str(found.skeleton.height), "width": str(found.skeleton.width)}
        properties["classes"] = json.dumps(inputs.class_names)
    images = torch.zeros(1, found.skeleton.image_channels, found.skeleton.height, found.skeleton.width)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing: torch 2.6, 2.13 and 2.15 have it, it writes one file, and it needs neither onnxscript
        # nor the five-fold time of the other one (paper's cell, 2 CPU cores: 5 s against 29 s).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            exported.eval(),
            (images,),
            buffer,
            dynamo=False,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, "scores": {0: "batch"}},
        )
    model = library.load_from_string(buffer.getvalue())
    library.helper.set_model_props(model, properties)
    library.checker.check_model(model)
    output.write_bytes(model.SerializeToString())


def copy_weights(found: Source, output: Path) -> None:
    """Writes the state_dict as it lies in the retraining; ends the tool for what has learnt nothing."""
    if found.learnt is None:
        toolkit.fail(f"expected a retraining, got {found.origin}: a search keeps no weights")
    if not found.learnt.file.is_file():
        toolkit.fail(f"expected the weights in {found.learnt.file}, but there is no such file")
    try:
        with open(found.learnt.file, "rb") as file:
            sealed.content_length(file)
    except sealed.Damaged as error:
        toolkit.fail(f"{found.learnt.file} is damaged: {error}")
    shutil.copyfile(found.learnt.file, output)


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────
def table(run: StoredRun) -> str:
    """All individuals as CSV. What an individual does not have is empty; genotypes and hashes are hexadecimal."""
    population = run.population
    columns: dict[str, list[object]] = {"id": list(range(len(population)))}
    for column in COLUMNS:
        values = population.column(column.name)
        if column.width == "replicates":
            for number in range(run.population.replicates):
                columns[f"accuracy_{number + 1}"] = _cells(values[:, number], np.nan)
        elif column.width == "edges":
            columns[column.name] = [row.tobytes().hex() for row in values]
        elif column.width == "hash":
            columns[column.name] = [row.tobytes().hex() if row.any() else "" for row in values]
        elif column.values is not None:
            columns[column.name] = [column.values(code).name if code else "" for code in values.tolist()]
        elif values.dtype.kind == "S":
            columns[column.name] = [text.decode(errors="replace") for text in values.tolist()]
        else:
            columns[column.name] = _cells(values, column.missing or None)
    place = {int(id): number for number, id in enumerate(population.evaluated, start=1)}
    columns["evaluation"] = [place.get(id, "") for id in range(len(population))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _cells(values: np.ndarray, missing: float | None) -> list[object]:
    return ["" if value == missing or value != value else value for value in values.tolist()]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────
def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the user asks for."""
    parser = toolkit.parser(__doc__, runs="")
    parser.add_argument("format", choices=("text", "module", "onnx", "weights", "csv"), help="what to write")
    parser.add_argument("source", metavar="SOURCE", help="RUN, RUN:ID, RUN:SEED, FILE.toml or paper")
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


def graph(found: Source) -> CellGraph:
    """The cell of primitives; ends the tool for a genotype that has no network."""
    try:
        return expansion.expand(found.genotype)
    except expansion.InvalidGenotype as error:
        toolkit.fail(f"{found.origin}: {error}")


def in_network(found: Source, options: argparse.Namespace) -> Source:
    """It in the network that was asked for; ends the tool where its weights, or its channels, would not fit that."""
    asked = {name: value for name in NETWORK if (value := getattr(options, name)) is not None}
    if found.learnt is not None and (asked or options.weights is not None):
        toolkit.fail(f"expected nothing but an output for {found.origin}: it has its network and its weights")
    if "cells" in asked:
        asked["cells"] = tuple(asked["cells"])
    try:
        return dataclasses.replace(found, skeleton=dataclasses.replace(found.skeleton, **asked))
    except ValueError as error:
        toolkit.fail(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes what was asked for and says so; the exit code."""
    options = parse(arguments)
    said: dict[str, object] = {"format": options.format}
    text = ""
    if options.format in ("onnx", "weights") and options.output is None:
        toolkit.fail(f"expected --output FILE: what {options.format} writes is no text")
    try:
        if options.format == "csv":
            run = toolkit.load(Path(options.source))
            text = table(run)
            said["individuals"] = len(run.population)
        else:
            found = in_network(source(options.source), options)
            said |= found.facts | {"parameters": sizes.size(graph(found), found.skeleton).parameters}
            if options.format == "onnx":
                onnx(found, options.weights, options.seed, options.output)
            elif options.format == "weights":
                copy_weights(found, options.output)
            else:
                text = module(found) if options.format == "module" else found.genotype.text()
        if text and options.output is not None:
            options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        toolkit.fail(f"{options.output}: expected to write it: {error.strerror}")
    if options.json:
        toolkit.print_json(said | ({"text": text} if options.output is None else {"output": str(options.output)}))
    elif options.output is None:
        sys.stdout.write(text)
    else:
        print(f"{options.output}: {', '.join(f'{name} {value}' for name, value in said.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
