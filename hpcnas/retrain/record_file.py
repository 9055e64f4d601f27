"""retrain.h5: a retraining as one HDF5 file, a published format (FORMAT.md), of the same family as population.h5.

    / attributes       format, format_version, hpcnas_version, run
    /configuration     the recipe, TOML
    /genotype          the genotype's text form
    /origin/…          where the genotype comes from
    /network/…         what the network is built with, and what its images are made to look like
    /trainings/…       one row a seed
    /history/…         one row every so many steps of a training
    /validations/…     one row a validation while a training goes on
    /sessions/…        one row a start
    /broken/file       images that could not be read

Written as a whole by rename, never in place. Beside it lie RUN/genotype.toml and RUN/weights-SEED.pt, one file for each
complete training. Knows neither torch nor MPI; when it is written is `record_keeper`'s business.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.retraining import SCHEME
from hpcnas.data import arrays
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain.record import Inputs, Origin, Record, RetrainingSession, Row, State, Trained, Validation
from hpcnas.search import run_file
from hpcnas.storage import allowed, durable, hdf5
from hpcnas.storage.allowed import Wrong
from hpcnas.storage.columns import LATEST, Column
from hpcnas.storage.folder import StoreError, holds
from hpcnas.storage.hdf5 import write_dataset, write_table

FORMAT = hdf5.Format("hpcnas retraining", 1)
NAME = run_file.RETRAINING

_TIME = "s since 1970-01-01"
TRAINING_COLUMNS = (
    Column("seed", "i8", "seed of weights, order and augmentation", low=0),
    Column("state", "u1", "where it stands", values=State),
    Column("step", "i8", "steps made", "steps", low=0),
    Column("training_seconds", "f8", "time spent on the steps", "s"),
    Column("images_per_second", "f8", "training images a second, over all ranks", "1/s", np.nan),
    Column("input_wait", "f8", "share of the time that ranks waited for images", "1", np.nan),
    Column("test_images", "i8", "test images that could be read", "1", -1, low=0),
    Column("test_accuracy", "f8", "share of them classified correctly", "1", np.nan, low=0, high=1),
    Column("test_top5", "f8", "share whose class is among the five with the highest scores", "1", np.nan, low=0,
           high=1),
    Column("test_loss", "f8", "mean cross-entropy on them", "1", np.nan, low=0, high=np.inf),
    Column("started", "f8", "start of the training, UTC", _TIME, np.nan, low=0, high=LATEST),
    Column("finished", "f8", "end of the test, UTC", _TIME, np.nan, low=0, high=LATEST),
    Column("test_broken", "i8", "test images that could not be read", "1", -1, added=True, low=0),
    Column("peak_memory", "i8", "what tensors took of rank 0's GPU at the most", "bytes", -1, added=True, low=0),
    Column("test_balanced_accuracy", "f8", "mean over the classes of the share of their images classified correctly",
           "1", np.nan, added=True, low=0, high=1),
    Column("test_macro_f1", "f8", "mean over the classes of their F1 scores", "1", np.nan, added=True, low=0, high=1),
    Column("test_auroc", "f8", "mean over the classes of the area under the ROC curve, each against the others", "1",
           np.nan, added=True, low=0, high=1),
)  # fmt: skip
HISTORY_COLUMNS = (
    Column("seed", "i8", "seed of the training", low=0),
    Column("step", "i8", "steps made by then", "steps", low=0),
    Column("loss", "f8", "mean loss of the steps since the row before", "1", low=0, high=np.inf),
    Column("accuracy", "f8", "likewise the share of augmented training images classified correctly", "1", low=0,
           high=1),
    Column("learning_rate", "f8", "learning rate of the last of them", "1", low=0),
    Column("images_per_second", "f8", "training images a second, over all ranks", "1/s"),
    Column("input_wait", "f8", "share of the time that ranks waited for images", "1"),
)  # fmt: skip
VALIDATION_COLUMNS = (
    Column("seed", "i8", "seed of the training", low=0),
    Column("step", "i8", "steps made by then", "steps", low=0),
    Column("images", "i8", "validation images that could be read", "1", low=1),
    Column("accuracy", "f8", "share of them classified correctly", "1", low=0, high=1),
    Column("loss", "f8", "mean cross-entropy on them", "1", np.nan, low=0),
    Column("seconds", "f8", "time spent on it", "s", low=0),
)
SESSION_COLUMNS = (
    Column("started", "f8", "when rank 0 started, UTC", _TIME, low=0, high=LATEST),
    Column("host", "S", "host of rank 0"),
    Column("pid", "i8", "process id of rank 0", low=0),
    Column("ranks", "i4", "MPI ranks", "ranks", low=0),
    Column("device", "S", "device of rank 0"),
    Column("software", "S", "names and versions, JSON"),
    Column("data", "S", "what the data set was: sizes and fingerprint, JSON"),
    Column("numbers", "S", "type of the numbers of feature maps on that device", added=True),
)
_VALIDATIONS = "validations"  # since 0.2
_TYPE = "pixel_type"  # of /network, where it is not uint8
_WEIGHTS = "weights"  # likewise, where trainings start from some
_MICRO_BATCH = "micro_batch"  # likewise, where memory had no room for the recipe's
_TABLES = {
    "trainings": TRAINING_COLUMNS,
    "history": HISTORY_COLUMNS,
    _VALIDATIONS: VALIDATION_COLUMNS,
    "sessions": SESSION_COLUMNS,
}
_SINGLE = {  # what the single values of a group may be; what they are is said where they are written
    "origin": (
        *(Column(name, "i8", "", missing=-1, low=0) for name in ("individual", "evaluation", "evaluated")),
        Column("fittest", "i8", "", low=-1, high=1),
        Column("max_parameters", "i8", "", missing=-1, low=0),
        Column("birth", "i8", "", missing=-1, added=True, low=min(Birth), high=max(Birth)),
        Column("fitness", "f8", "", missing=np.nan, low=-1e6, high=1e6),
    ),
    "network": (
        Column("image_channels", "i8", "", low=1, high=1 << 16),
        *(Column(name, "i8", "", low=1, high=1 << 20) for name in ("height", "width", "resize", "crop")),
        Column("classes", "i8", "", low=1, high=1 << 24),
        Column("channels", "i8", "", low=1, high=1 << 20),
        *(Column(name, "i8", "", low=0) for name in ("parameters", "flops")),
        Column("cells", "i8", "", low=1, high=10_000),
        Column("mean", "f8", ""),
        Column("std", "f8", "", low=1e-30),
        Column(_MICRO_BATCH, "i8", "", added=True, low=2),
    ),
}


def exists(folder: Path) -> bool:
    """Whether the folder holds a retraining. Raises StoreError where that cannot be seen."""
    return holds(folder, NAME)


def weights_path(folder: Path, seed: int) -> Path:
    """The state_dict of a complete training."""
    return folder / f"weights-{seed}.pt"


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def write(folder: Path, record: Record, at: int | None = None) -> None:
    """retrain.h5, whole; `at` as of `durable`. Raises StoreError."""
    try:
        durable.put(folder / NAME, _image(record), at)
    except OSError as error:
        raise StoreError(f"expected to write {folder / NAME}: {error.strerror}") from None


def _image(record: Record) -> bytes:
    """The file's bytes."""
    return hdf5.image(FORMAT, record.run, functools.partial(_fill, record))


def _fill(record: Record, file: hdf5.Group) -> None:
    write_dataset(file, "configuration", _text(record.recipe.toml()), "the recipe, TOML")
    write_dataset(file, "genotype", _text(record.genotype.text()), "the genotype's text form")
    _write_origin(file.create_group("origin"), record.origin)
    _write_network(file.create_group("network"), record)
    write_table(file.create_group("trainings"), TRAINING_COLUMNS, _columns(TRAINING_COLUMNS, record.trainings))
    write_table(file.create_group("history"), HISTORY_COLUMNS, _columns(HISTORY_COLUMNS, record.history))
    validations = _columns(VALIDATION_COLUMNS, record.validations)
    write_table(file.create_group(_VALIDATIONS), VALIDATION_COLUMNS, validations)
    sessions = [
        asdict(session) | {"software": json.dumps(dict(session.software)), "data": json.dumps(session.facts.record())}
        for session in record.sessions
    ]
    write_table(
        file.create_group("sessions"),
        SESSION_COLUMNS,
        {column.name: [_encoded(session[column.name]) for session in sessions] for column in SESSION_COLUMNS},
    )
    names = np.asarray([_bytes(name) for name in record.broken], dtype="S")
    write_dataset(file.create_group("broken"), "file", names, "images that could not be read, relative to the data")


def _write_origin(group: hdf5.Group, origin: Origin) -> None:
    write_dataset(group, "source", _text(origin.source), "what was asked for: RUN:ID, FILE.toml or paper")
    write_dataset(group, "space", _text(origin.space), "search space")
    write_dataset(group, "run", _text(origin.run or ""), "the search's own name")
    individual = np.int64(-1 if origin.individual is None else origin.individual)
    write_dataset(group, "individual", individual, "id of the individual in it")
    write_dataset(group, "strategy", _text(origin.strategy or ""), "how that search chose genotypes")
    fitness = np.float64(np.nan if origin.fitness is None else origin.fitness)
    write_dataset(group, "fitness", fitness, "the individual's fitness", "1")
    evaluation = np.int64(-1 if origin.evaluation is None else origin.evaluation)
    write_dataset(group, "evaluation", evaluation, "its place in the order of evaluations, from 0", "evaluations")
    evaluated = np.int64(-1 if origin.evaluated is None else origin.evaluated)
    write_dataset(group, "evaluated", evaluated, "individuals evaluated when the retraining began", "individuals")
    fittest = np.int8(-1 if origin.fittest is None else origin.fittest)
    write_dataset(group, "fittest", fittest, "1: it was the best of them, 0: it was not")
    limit = np.int64(-1 if origin.max_parameters is None else origin.max_parameters)
    write_dataset(group, "max_parameters", limit, "the search's constraint: fewer parameters than these", "1")
    if origin.departures is not None:
        told = "where the search went another way than the paper's"
        write_dataset(group, "departures", _text(origin.departures), told)
    birth = np.int8(-1 if origin.birth is None else origin.birth)
    write_dataset(group, "birth", birth, "how the individual came to be, as in population.h5")


def _write_network(group: hdf5.Group, record: Record) -> None:
    inputs, skeleton = record.inputs, record.inputs.skeleton
    write_dataset(group, "image_channels", np.int64(skeleton.image_channels), "channels of an image")
    write_dataset(group, "height", np.int64(skeleton.height), "of a test image's centre crop", "pixels")
    write_dataset(group, "width", np.int64(skeleton.width), "likewise", "pixels")
    write_dataset(group, "classes", np.int64(skeleton.classes), "number of classes")
    write_dataset(group, "channels", np.int64(skeleton.channels), "channels that the first cell reads, c0")
    write_dataset(group, "cells", np.asarray(skeleton.cells, dtype=np.int64), "cells of each group")
    write_dataset(group, "stem", _text(skeleton.stem), "before the first cell: plain or strided")
    write_dataset(group, "parameters", np.int64(record.parameters), "trainable parameters", "1")
    write_dataset(group, "flops", np.int64(record.flops), "of one forward pass of one image", "1")
    write_dataset(group, "mean", np.asarray(inputs.mean, dtype=np.float64), "subtracted from pixels, 0 to 255")
    write_dataset(group, "std", np.asarray(inputs.std, dtype=np.float64), "that the difference is divided by")
    names = np.asarray([_bytes(name) for name in inputs.class_names], dtype="S")
    write_dataset(group, "class_names", names, "in the order of the class scores")
    if inputs.type != "uint8":
        write_dataset(group, _TYPE, _text(inputs.type), "of the pixels, which no picture file has")
    write_dataset(group, "resize", np.int64(inputs.resize), "shorter side of a test image before its crop", "pixels")
    if record.weights is not None:
        told = "fingerprint of the weights that trainings start from"
        write_dataset(group, _WEIGHTS, _text(record.weights), told)
    if record.micro_batch is not None:
        told = "images that batch statistics are of, since memory had no room for the recipe's"
        write_dataset(group, _MICRO_BATCH, np.int64(record.micro_batch), told, "images")
    smaller = np.int64(min(skeleton.height, skeleton.width))
    write_dataset(group, "crop", smaller, "the smaller of height and width", "pixels")


def _columns(columns: Sequence[Column], rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Values of each column; what is None as the column has it."""
    return {
        column.name: [column.missing if (value := getattr(row, column.name)) is None else value for row in rows]
        for column in columns
    }


def _encoded(value: object) -> object:
    return _bytes(value) if isinstance(value, str) else value


def _text(value: str) -> np.bytes_:
    return np.bytes_(_bytes(value))


def _bytes(text: str) -> bytes:
    """UTF-8, and names of files as they are, which may be anything."""
    return text.encode("utf-8", "surrogateescape")


def _str(data: bytes) -> str:
    """What `_bytes` was given."""
    return bytes(data).decode("utf-8", "surrogateescape")


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def read(folder: Path) -> Record:
    """The retraining as its last retrain.h5 has it, also while it goes on. Raises StoreError."""
    with _opened(folder) as (path, file):
        return _read(path, file)


def faults(folder: Path) -> list[str]:
    """Every value that no retraining has written, a line each: what `read` refuses the file for. Raises StoreError
    where the file cannot be read at all."""
    with _opened(folder) as (_, file):
        return [str(wrong) for wrong in _wrong(file, _tables(file))]


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[Path, hdf5.Group]]:
    """The file and its path. Raises StoreError where there is none, and where it cannot be read in the course."""
    path = folder / NAME
    if not exists(folder):
        instead = "; it holds a search" if run_file.exists(folder) else ""
        raise StoreError(f"expected a retraining in {folder}, but there is no {NAME}{instead}")
    try:
        with hdf5.opened(path, FORMAT) as file:
            yield path, file
    except hdf5.DAMAGE as error:
        raise StoreError(f"{path}: expected a whole file of a retraining, but it cannot be read: {error}") from None


def _tables(file: hdf5.Group) -> dict[str, dict[str, np.ndarray]]:
    """Those that the file has, unchecked. Raises one of DAMAGE."""
    return hdf5.read_tables(file, {name: columns for name, columns in _TABLES.items() if _was_kept(file, name)})


def _read(path: Path, file: hdf5.Group) -> Record:
    settings, _ = SCHEME.parse_toml(_string(file, "configuration"), str(path))
    tables = _tables(file)
    for wrong in _wrong(file, tables):
        raise StoreError(f"{path}: {wrong}; put a copy of the file back, or begin in another --run")
    record = Record(
        run=bytes(file.attrs["run"]).decode(),
        recipe=SCHEME.build(settings),
        genotype=Genotype.from_text(_string(file, "genotype")),
        origin=_origin(file["origin"]),
        inputs=_inputs(file["network"]),
        parameters=int(file["network/parameters"][()]),
        flops=int(file["network/flops"][()]),
        trainings=[_trained(row) for row in _rows(tables["trainings"])],
        history=[Row(**row) for row in _rows(tables["history"])],
        sessions=[_session(row) for row in _rows(tables["sessions"])],
        broken=[_str(name) for name in file["broken/file"][()]],
        validations=[_validation(row) for row in _rows(tables.get(_VALIDATIONS, {}))],
    )
    if _WEIGHTS in file["network"]:
        record.weights = _string(file["network"], _WEIGHTS)
    if _MICRO_BATCH in file["network"]:
        record.micro_batch = int(file["network"][_MICRO_BATCH][()])
    record.recipe = record.on_its_images(record.recipe)
    return record


def _was_kept(file: hdf5.Group, table: str) -> bool:
    """Whether a table is to be read: older files have no validations, the absence of any other is damage."""
    return table != _VALIDATIONS or table in file


def _wrong(file: hdf5.Group, tables: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[Wrong]:
    """What no retraining has written."""
    run = bytes(file.attrs["run"]).decode(errors="replace")
    if not 0 < len(run) <= 100 or not run.isprintable():
        yield Wrong("retraining", "run", None, "a name in up to 100 letters and digits", allowed.shown(run))
    for group, columns in _SINGLE.items():
        columns = tuple(column for column in columns if not column.added or column.name in file[group])
        values = {column.name: np.atleast_1d(file[group][column.name][()]) for column in columns}
        for column in columns:
            whole = column.dtype == "i8"
            if values[column.name].dtype.kind not in ("iu" if whole else "f") or values[column.name].ndim != 1:
                what = f"{column.name} as {column.dtype}"
                yield Wrong(group, column.name, None, what, str(values[column.name].dtype))
                return
        yield from allowed.wrong_values(group, columns, values)
    for group, table in tables.items():
        columns = _TABLES[group]
        misshapen = list(allowed.wrong_shapes(group, columns, table, len(table[columns[0].name])))
        yield from misshapen or allowed.wrong_values(group, [one for one in columns if one.dtype != "S"], table)
    network, seeds = file["network"], tables["trainings"]["seed"]
    for name, expected in (("class_names", "classes"), ("mean", "image_channels"), ("std", "image_channels")):
        if len(network[name]) != int(network[expected][()]):
            yield Wrong("network", name, None, f"{name} of {int(network[expected][()])}", str(len(network[name])))
    if _TYPE in network and (kind := _string(network, _TYPE)) not in arrays.TYPES:
        yield Wrong("network", _TYPE, None, f"one of {', '.join(arrays.TYPES)}", allowed.shown(kind))
    first = np.zeros(len(seeds), dtype=bool)
    first[np.unique(seeds, return_index=True)[1]] = True
    yield from allowed.told("trainings", "seed", ~first, "every seed once", tables["trainings"])
    complete, accuracy = tables["trainings"]["state"] == State.COMPLETE, tables["trainings"]["test_accuracy"]
    yield from allowed.told("trainings", "test_accuracy", complete & np.isnan(accuracy),
                            "a test_accuracy of a training that is COMPLETE", tables["trainings"])  # fmt: skip


def _string(group: hdf5.Group, name: str) -> str:
    return _str(group[name][()])


def _origin(group: hdf5.Group) -> Origin:
    names = ("individual", "evaluation", "evaluated", "fittest", "max_parameters")
    known = {name: value for name in names if (value := int(group[name][()])) >= 0}
    fittest, fitness = known.pop("fittest", None), float(group["fitness"][()])
    return Origin(
        source=_string(group, "source"),
        space=_string(group, "space"),
        run=_string(group, "run") or None,
        strategy=_string(group, "strategy") or None,
        fitness=None if np.isnan(fitness) else fitness,
        fittest=None if fittest is None else bool(fittest),
        departures=_string(group, "departures") if "departures" in group else None,
        birth=Birth(birth) if "birth" in group and (birth := int(group["birth"][()])) >= 0 else None,
        **known,
    )


def _inputs(group: hdf5.Group) -> Inputs:
    numbers = {name: int(group[name][()]) for name in ("image_channels", "height", "width", "classes", "channels")}
    return Inputs(
        skeleton=Skeleton(**numbers, cells=tuple(group["cells"][()].tolist()), stem=_string(group, "stem")),
        class_names=tuple(_str(name) for name in group["class_names"][()]),
        mean=tuple(group["mean"][()].tolist()),
        std=tuple(group["std"][()].tolist()),
        resize=int(group["resize"][()]),
        type=_string(group, _TYPE) if _TYPE in group else "uint8",
    )


def _rows(table: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    lists = [column.tolist() for column in table.values()]
    return [dict(zip(table, values, strict=True)) for values in zip(*lists, strict=True)]


def _trained(row: dict[str, Any]) -> Trained:
    missing = {column.name: column.missing for column in TRAINING_COLUMNS if column.missing != 0}
    known = {name: value for name, value in row.items() if value == value and value != missing.get(name)}
    return Trained(**known | {"state": State(row["state"])})


def _validation(row: dict[str, Any]) -> Validation:
    return Validation(**row | {"loss": None if np.isnan(row["loss"]) else row["loss"]})


def _session(row: dict[str, Any]) -> RetrainingSession:
    facts = allowed.facts(json.loads(row.pop("data")))
    texts: dict[str, Any] = {name: _str(row[name]) for name in ("host", "device", "numbers") if name in row}
    return RetrainingSession(**row | texts | {"software": allowed.software(json.loads(row["software"]))}, facts=facts)


assert {column.name for column in TRAINING_COLUMNS} == {item.name for item in fields(Trained)}
