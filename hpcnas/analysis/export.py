"""What a search or a retraining has found, for use without hpcnas: as Python, ONNX, a state_dict or CSV.

A genotype comes with where it is from and the network that it was evaluated or trained in (`Source`). Texts are
returned; files are written where the caller says. torch and onnx are imported only by what needs them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcnas import __version__
from hpcnas.analysis import csv_text, exported_module, needs, retrainings, rungs, runs
from hpcnas.analysis.learnt import learnt
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion, primitives, sizes
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain.file_store import CHECKPOINT
from hpcnas.retrain.record import Inputs
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import sealed
from hpcnas.storage.output import write_output

PAPER = Skeleton(image_channels=3, height=32, width=32, classes=10, channels=16, cells=(1, 1, 1), stem="plain")


@dataclass(frozen=True)
class Weights:
    """What a training has learnt, and how its network is fed. `remark` is what whoever gets it has to know."""

    file: Path
    inputs: Inputs
    unfinished: Mapping[str, Any] | None = None  # the state_dict of a training that is not complete, and has no file
    remark: str | None = None


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
    """What RUN, RUN:best, RUN:ID, FILE.toml, `paper`, RETRAINING or RETRAINING:SEED names. Raises AnalysisError or
    WrongReference where there is none."""
    if retrainings.names_one(text):
        return retrained(text)
    if text.endswith(".toml") or (text == "paper" and not Path(text).exists()):
        _, genotype = runs.named_genotype(text)
        origin = "the paper's best cell (Appendix A)" if text == "paper" else f"the file {Path(text).name}"
        return Source(origin, ("fitness", "unknown"), genotype, PAPER)
    folder, run, id = runs.individual(text)
    skeleton = run.config.skeleton(run.sessions[-1].facts) if run.sessions else PAPER
    origin = f"individual {id} of the run {folder.resolve().name}"
    return Source(origin, ("fitness", fitness(run, id)), run.population.individual(id).genotype, skeleton)


def retrained(text: str) -> Source:
    """What a retraining has found for one seed: FOLDER (the least one that is complete, else the one under way) or
    FOLDER:SEED. Raises AnalysisError where there is none."""
    one = learnt(text)
    found, training, stored = one.found, one.training, one.found.stored
    origin = f"the retraining {found.folder.resolve().name} of {stored.origin.source}, seed {training.seed}"
    if one.unfinished is not None:
        weights = Weights(found.folder / CHECKPOINT, stored.inputs, one.unfinished.weights, one.remark)
        return Source(origin, ("state", one.unfinished.remark), stored.genotype, stored.inputs.skeleton, weights)
    accuracy = f"{training.test_accuracy:.4f} on {training.test_images:,} test images"
    if len(found.complete) > 1:
        accuracy += f" (all {len(found.complete)} seeds: {retrainings.mean_and_std(stored.test_accuracies)})"
    if stored.diverged:
        accuracy += f"; seed {', '.join(map(str, stored.diverged))} diverged"
    weights = Weights(found.weights(training), stored.inputs)
    return Source(origin, ("accuracy", accuracy), stored.genotype, stored.inputs.skeleton, weights)


def fitness(run: StoredRun, id: int) -> str:
    """The fitness of an individual in words."""
    measured = float(run.population.column("fitness")[id])
    if (share := rungs.stopped_share(run.population, id)) is not None:
        return f"none, since its training was stopped early at {rungs.percent(share)} of the steps"
    if math.isnan(measured):
        return "not evaluated"
    accuracies = run.population.averaged_accuracies(id)
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    kind = "synthetic, no training" if run.config.evaluation.evaluator == "synthetic" else run.config.measure.words
    return f"{measured:.4f}{spread} ({kind}; trainings: {len(accuracies)})"


def in_network(found: Source, **asked: Any) -> Source:
    """It in the network that was asked for, by fields of Skeleton. Raises AnalysisError where there is no such
    network, or it was trained, so that its weights would not fit."""
    if asked:
        require_untrained(found)
    try:
        return dataclasses.replace(found, skeleton=dataclasses.replace(found.skeleton, **asked))
    except ValueError as error:
        raise AnalysisError(str(error)) from error


def require_untrained(found: Source) -> None:
    """Raises AnalysisError for what a retraining has trained, which comes with its own network and weights."""
    if found.learnt is not None:
        raise AnalysisError(f"expected nothing but an output for {found.origin}: it has its network and its weights")


def graph(found: Source) -> CellGraph:
    """The cell of primitives. Raises AnalysisError for a genotype that has no network."""
    try:
        return expansion.expand(found.genotype)
    except expansion.InvalidGenotype as error:
        raise AnalysisError(f"{found.origin}: {error}") from error


def parameters(found: Source) -> int:
    """Of its network. Raises AnalysisError for a genotype that has none."""
    return sizes.size(graph(found), found.skeleton).parameters


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────
def module(found: Source) -> str:
    """The text of the Python file with the network. Raises AnalysisError for a primitive that is a plugin's."""
    for name in sorted({primitives.name(edge.operation) for edge in graph(found).edges}):
        if name not in primitives.NAMES:
            raise AnalysisError(f"expected a network of the paper's primitives, but {name} is a plugin's")
    name, value = found.quality
    told = f"The network of {found.origin}.", f"{name.capitalize()}: {value}"
    return exported_module.text(found.genotype, found.skeleton, *told, found.learnt.inputs if found.learnt else None)


# ── the network as ONNX, and weights ────────────────────────────────────────────────────────────────────────────────
def write_onnx(found: Source, output: Path, weights: Path | None = None, seed: int = 0) -> None:
    """Writes the network's file: images float32 (N, channels, height, width) → scores (N, classes), of any N, height
    and width. A retrained network takes pixels as its data have them, 0 to 255 of uint8, and has its weights inside.
    Any other takes what networks of the search were given, and has the weights of the file `weights` (a state_dict),
    else random ones of that seed.

    Raises AnalysisError where onnx is missing, or weights do not fit the network; OSError where the file cannot be
    written.
    """
    with needs.packages("ONNX files"):
        import onnx
    import warnings

    import torch

    from hpcnas.analysis.classifier import Classifier, load_weights
    from hpcnas.training.network import Network

    if weights is not None:
        require_untrained(found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(graph(found), found.skeleton)
    given = weights if found.learnt is None else found.learnt.file
    if found.learnt is not None and found.learnt.unfinished is not None:
        network.load_state_dict(found.learnt.unfinished)
    elif given is not None:
        load_weights(network, given)
    exported: torch.nn.Module = network
    properties = {**found.facts, "codes": found.genotype.codes.hex()}
    properties["weights"] = "random" if given is None else given.name
    if found.learnt is not None:
        inputs = found.learnt.inputs
        exported = Classifier(network, inputs)
        pixels = "pixels, 0 to 255" if inputs.type == "uint8" else f"pixels, values of {inputs.type}"
        properties |= {"input": pixels, "resize": str(inputs.resize)}
        properties |= {} if inputs.type == "uint8" else {"type": inputs.type}
        properties |= {"height": str(found.skeleton.height), "width": str(found.skeleton.width)}
        properties["classes"] = json.dumps(inputs.class_names)
    images = torch.zeros(1, found.skeleton.image_channels, found.skeleton.height, found.skeleton.width)
    buffer: Any = io.BytesIO()  # which torch takes, though its types say a path
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
    model = onnx.load_from_string(buffer.getvalue())
    told = {key: value.encode("utf-8", "backslashreplace").decode() for key, value in properties.items()}
    onnx.helper.set_model_props(model, told)  # names of folders may be of any bytes
    onnx.checker.check_model(model)
    write_output(output, model.SerializeToString())


def copy_weights(found: Source, output: Path) -> None:
    """Writes the state_dict as it lies in the retraining, or out of its checkpoint. Raises AnalysisError for what was
    not trained, or where its weights are missing or damaged; OSError where the file cannot be written."""
    if found.learnt is None:
        raise AnalysisError(f"expected a retraining, got {found.origin}: a search keeps no weights")
    if found.learnt.unfinished is not None:
        from hpcnas.training import checkpoints

        checkpoints.save(output, dict(found.learnt.unfinished))
        return
    if not found.learnt.file.is_file():
        raise AnalysisError(f"expected the weights in {found.learnt.file}, but there is no such file")
    try:
        with open(found.learnt.file, "rb") as file:
            sealed.content_length(file)
    except sealed.Damaged as error:
        raise AnalysisError(f"{found.learnt.file} is damaged: {error}") from error
    if output.exists() and output.samefile(found.learnt.file):
        raise AnalysisError(f"{output} and {found.learnt.file} are the same file; give another --output")
    write_output(output, found.learnt.file.read_bytes())


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────
def csv_table(run: StoredRun) -> str:
    """All individuals as CSV, a row each in the order of birth; columns are those of FORMAT.md, and `evaluation` is the
    place in the order of evaluations. `accuracies` has a column for each replicate, `curves` likewise for each rung of
    each, measures such as `log_loss_1`, of classes `class_accuracy_1_of_0`. What an individual does not have is empty;
    genotypes and hashes are hexadecimal."""
    population = run.population
    columns: dict[str, list[object]] = {"id": list(range(len(population)))}
    for column in population.recorded:
        values = population.column(column.name)
        if column.width == "curves":
            for number, name in enumerate(rungs.column_names(population)):
                columns[name] = _cells(values[:, number], np.nan)
        elif column.width == "replicates":
            for number in range(run.population.replicates):
                columns[f"accuracy_{number + 1}"] = _cells(values[:, number], np.nan)
        elif column.width == "measured":
            for number in range(run.population.replicates):
                columns[f"{column.name}_{number + 1}"] = _cells(values[:, number], np.nan)
        elif column.width == "classes":
            classes = values.shape[1] // run.population.replicates
            for number in range(values.shape[1]):
                name = f"class_accuracy_{number // classes + 1}_of_{number % classes}"
                columns[name] = _cells(values[:, number], np.nan)
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
    return csv_text.table(list(columns), zip(*columns.values(), strict=True))


def _cells(values: np.ndarray, missing: float | None) -> list[object]:
    return ["" if value == missing or value != value else value for value in values.tolist()]
