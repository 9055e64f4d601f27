#!/usr/bin/env python3
"""Hands out what a search has found, for use without hpcnas.

  text     a genotype as TOML, to read, to edit and to give to other tools
  module   a genotype as a Python file with its network, which needs torch alone and has the same state_dict
  onnx     a genotype's network as ONNX (needs onnx); batch, height and width are free
  csv      the table of a run: an individual a row, in the order of birth; columns are those of hpcnas/FORMAT.md, and
           `evaluation` is the place in the order of evaluations

SOURCE is RUN (its best individual), RUN:ID, FILE.toml, or `paper`, the paper's cell; for csv it is RUN. A run may be
under way. Without --output, text goes to the terminal. A search keeps no weights: those of the ONNX file are random
unless --weights names a state_dict of the network, say of the module, trained.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import re
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import toolkit

from hpcnas import __version__, canonical, counting, primitives
from hpcnas.canonical import CellGraph
from hpcnas.genotype import Genotype, operation_names
from hpcnas.population import COLUMNS
from hpcnas.runfile import StoredRun
from hpcnas.skeleton import Skeleton

PAPER = Skeleton(image_channels=3, height=32, width=32, classes=10, channels=16, cells_per_group=1, groups=3)
TEMPLATE = Path(__file__).with_name("network_template.py")
NETWORK = ("channels", "cells_per_group", "classes", "image_channels", "groups")  # what Network(…) is told


@dataclass(frozen=True)
class Source:
    """A genotype, where it comes from in words, and the network that it was evaluated in."""

    origin: str
    fitness: str
    genotype: Genotype
    skeleton: Skeleton

    @property
    def facts(self) -> dict[str, str]:
        """What is known about it, for people."""
        return {"hpcnas": __version__, "genotype": self.origin, "fitness": self.fitness}


def source(text: str) -> Source:
    """What RUN, RUN:ID, FILE.toml or `paper` names; ends the tool where there is none."""
    if text.endswith(".toml") or (text == "paper" and not Path(text).exists()):
        _, genotype = toolkit.named_genotype(text)
        origin = "the paper's best cell (Appendix A)" if text == "paper" else f"the file {Path(text).name}"
        return Source(origin, "unknown", genotype, PAPER)
    folder, run, id = toolkit.individual(text)
    skeleton = Skeleton.of(run.config.network, run.sessions[-1].facts) if run.sessions else PAPER
    origin = f"individual {id} of the run {folder.resolve().name}"
    return Source(origin, fitness(run, id), run.population.individual(id).genotype, skeleton)


def fitness(run: StoredRun, id: int) -> str:
    """The fitness in words."""
    if np.isnan(run.population.column("fitness")[id]):
        return "not evaluated"
    accuracies = run.population.accuracies(id)
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    kind = "synthetic, no training" if run.config.evaluation.evaluator == "synthetic" else "validation accuracy"
    return f"{statistics.fmean(accuracies):.4f}{spread} ({kind}; trainings: {len(accuracies)})"


# ── the genotype as a Python file ───────────────────────────────────────────────────────────────────────────────────
def module(found: Source) -> str:
    """The file's text; ends the tool for a primitive that the file would not have."""
    for name in sorted({primitives.name(edge.operation) for edge in canonical.expand(found.genotype).edges}):
        if name not in primitives.NAMES:
            toolkit.fail(f"expected a network of the paper's primitives, but {name} is a plugin's")
    values = dataclasses.asdict(found.skeleton)
    parameters = counting.size(canonical.expand(found.genotype), found.skeleton).parameters
    header = (
        f"The network of {printable(found.origin)}.\n\n"
        f"Fitness: {printable(found.fitness)}; search space: {found.genotype.space}. Written by hpcnas {__version__}.\n"
        f"Needs torch alone. `Network()` has {parameters:,} parameters; a larger one for the same kind of images:\n"
        f"`Network(channels={4 * found.skeleton.channels}, cells_per_group=2)`.\n"
    )
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("@HEADER@", header).replace('"@LEVELS@"', literal(found.genotype))
    for name in NETWORK:
        text = re.sub(rf"(?m)^        {name}: int = \d+,$", f"        {name}: int = {values[name]},", text)
    return text


def printable(text: str) -> str:
    """A text that can stand in a docstring: whatever could end it or does not print is left out."""
    return "".join(character for character in text if character.isprintable() and character not in '"\\')


def literal(genotype: Genotype) -> str:
    """Those motifs that the cell uses and their edges on a path, as a Python literal."""
    live, top = canonical.live_edges(genotype), genotype.space.top
    used, lines = {0}, ["{"]  # motifs of the level at hand
    for level in range(top, 1, -1):
        names = operation_names(genotype.space, level)
        lines.append(f"    {level}: {{")
        for motif in sorted(used):
            name = "cell" if level == top else f"M{motif + 1}"
            lines.append(f'        "{name}": {{')
            for node in sorted({successor for _, successor, _ in live[level, motif]}):
                inputs = [(j + 1, names[code - 1]) for j, i, code in live[level, motif] if i == node]
                lines += _wrapped(f"            {node + 1}: ", [f'({j}, "{name}")' for j, name in inputs])
            lines.append("        },")
        lines.append("    },")
        used = {code - 1 for motif in used for _, _, code in live[level, motif]}
    return "\n".join([*lines, "}"])


def _wrapped(start: str, items: list[str]) -> list[str]:
    line = f"{start}[{', '.join(items)}],"
    if len(line) <= 120:
        return [line]
    return [f"{start}[", *(f"                {item}," for item in items), "            ],"]


# ── the network as ONNX ─────────────────────────────────────────────────────────────────────────────────────────────
def onnx(found: Source, weights: Path | None, seed: int, output: Path) -> None:
    """Writes the network's file; ends the tool where something that it needs is missing."""
    try:
        import onnx as library
    except ImportError:
        toolkit.fail("expected the package onnx; install it with: pip install onnx")
    import warnings

    import torch

    from hpcnas.network import Network

    torch.manual_seed(seed)
    network = Network(canonical.expand(found.genotype), found.skeleton)
    if weights is not None:
        try:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, ValueError, EOFError) as error:
            toolkit.fail(f"{weights}: expected a state_dict of this network: {str(error).splitlines()[0]}")
        except Exception as error:  # what unpickling makes of bytes that are no such file
            toolkit.fail(f"{weights}: expected a file of torch.save: {str(error).splitlines()[0]}")
    images = torch.zeros(1, found.skeleton.image_channels, found.skeleton.height, found.skeleton.width)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing: torch 2.6, 2.13 and 2.15 have it, it writes one file, and it needs neither onnxscript
        # nor the five-fold time of the other one (paper's cell, 2 CPU cores: 5 s against 29 s).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (images,),
            buffer,
            dynamo=False,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, "scores": {0: "batch"}},
        )
    model = library.load_from_string(buffer.getvalue())
    origin = "random" if weights is None else weights.name
    library.helper.set_model_props(model, {**found.facts, "weights": origin, "codes": found.genotype.codes.hex()})
    library.checker.check_model(model)
    output.write_bytes(model.SerializeToString())


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
    parser.add_argument("format", choices=("text", "module", "onnx", "csv"), help="what to write")
    parser.add_argument("source", metavar="SOURCE", help="RUN, RUN:ID, FILE.toml or paper")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: to the terminal)"
    )
    network = parser.add_argument_group("network (module: what Network() is; default: the network of the search)")
    for name in NETWORK:
        network.add_argument(f"--{name.replace('_', '-')}", type=positive, metavar="N")
    weights = parser.add_argument_group("weights (onnx)")
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
        return canonical.expand(found.genotype)
    except canonical.InvalidGenotype as error:
        toolkit.fail(f"{found.origin}: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes what was asked for and says so; the exit code."""
    options = parse(arguments)
    said: dict[str, object] = {"format": options.format}
    text = ""
    if options.format == "onnx" and options.output is None:
        toolkit.fail("expected --output FILE: an ONNX file is no text")
    try:
        if options.format == "csv":
            run = toolkit.load(Path(options.source))
            text = table(run)
            said["individuals"] = len(run.population)
        else:
            found = source(options.source)
            asked = {name: value for name in NETWORK if (value := getattr(options, name)) is not None}
            found = dataclasses.replace(found, skeleton=dataclasses.replace(found.skeleton, **asked))
            said |= found.facts | {"parameters": counting.size(graph(found), found.skeleton).parameters}
            if options.format == "onnx":
                onnx(found, options.weights, options.seed, options.output)
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    sys.exit(main())
