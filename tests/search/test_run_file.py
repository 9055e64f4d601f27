"""population.h5: what it holds, that it comes back, and what reading makes of a file that is not one."""

from __future__ import annotations

import errno
import fcntl
import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import CONFIG, SESSION, WORKER, assert_same, evaluated, failed, individual, population

from hpcnas import __version__
from hpcnas.config.search import build, parse_toml
from hpcnas.evolution.individuals import Birth, State
from hpcnas.messages import FailureKind, Place
from hpcnas.search.run_file import MESSAGE_BYTES, StoredRun, fitting, read, write
from hpcnas.storage.folder import StoreError


def some_run() -> StoredRun:
    """A run with a bit of everything."""
    some = population(evaluated(2, 0.1, 0.7), failed(1, "Ünïcode ☃\nline"), births=3)
    some.add(individual(3, parent=2, redrawn=1))
    some.retry(failed(3, "once more", FailureKind.HANG))
    return StoredRun("run-1", 9, CONFIG, some, [SESSION, replace(SESSION, host="node-2")], [WORKER] * 3)


# What comes back


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    found, expected = read(tmp_path), some_run()
    assert_same(found.population, expected.population)
    assert (found.run, found.records, found.config) == ("run-1", 9, CONFIG)
    assert found.sessions == expected.sessions


def test_a_run_from_before_winners_were_drawn_goes_on_to_draw_samples(tmp_path: Path) -> None:
    run = some_run()
    write(tmp_path / "population.h5", run)
    text = run.config.toml().replace('tournament_draw = "winner"\n', "")
    assert text != run.config.toml()
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
    assert read(tmp_path).config == replace(CONFIG, search=replace(CONFIG.search, tournament_draw="sample"))


def test_a_run_from_before_networks_were_kept_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        for name in ("known", "network", "network_version"):
            del file["individuals"][name]
    assert_same(read(tmp_path).population, some_run().population)


def test_a_run_in_which_nothing_happened_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", StoredRun("run-1", 0, CONFIG, population()))
    found = read(tmp_path)
    assert_same(found.population, population())
    assert (found.records, found.sessions) == (0, [])


def test_the_end_of_a_long_message_is_kept(tmp_path: Path) -> None:
    message = "".join(f"line {number}\n" for number in range(1000)) + "the reason"
    run = StoredRun("run-1", 0, CONFIG, population(failed(0, message)), [SESSION])
    write(tmp_path / "population.h5", run)
    found = read(tmp_path).population.failures[0].message
    assert len(found) == MESSAGE_BYTES
    assert message.endswith(found)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("", ""),
        ("☃" * 1000, "☃" * (MESSAGE_BYTES // 3)),  # three bytes each: none is cut in half
        ("a\0b\0\0", "a\0b"),  # HDF5 fills with zeros
        ("file \udcff", "file ?"),  # a byte of a path that is not UTF-8
    ],
)
def test_a_message_is_fitted_once(message: str, kept: str) -> None:
    assert fitting(message) == kept
    assert fitting(kept) == kept


def test_names_of_software_may_be_long(tmp_path: Path) -> None:
    session = replace(SESSION, software={"mpi": "é" * 3000})
    write(tmp_path / "population.h5", StoredRun("run-1", 1, CONFIG, population(), [session, SESSION]))
    assert read(tmp_path).sessions == [session, SESSION]


def test_hosts_and_devices_of_failed_attempts_come_back_whole(tmp_path: Path) -> None:
    attempt = replace(failed(0), place=Place(1, "h" * 70, "d" * 70))
    some = population(births=1)
    some.retry(attempt)
    write(tmp_path / "population.h5", StoredRun("run-1", 1, CONFIG, some, [SESSION]))
    assert read(tmp_path).population.failed_attempts == [attempt]


# The published format


@contextmanager
def opened(folder: Path, run: StoredRun) -> Iterator[h5py.File]:
    write(folder / "population.h5", run)
    with h5py.File(folder / "population.h5", "r") as file:
        yield file


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        attributes = dict(file.attrs)
        configuration = bytes(file["configuration"][()]).decode()
    assert attributes == {
        "format": b"hpcnas run",
        "format_version": 1,
        "hpcnas_version": __version__.encode(),
        "run": b"run-1",
        "records": 9,
        "space": b"2x3/1x3",
    }
    assert build(parse_toml(configuration, "")[0]) == CONFIG


def test_the_file_has_these_tables(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        shapes = {name: dataset.shape for name, dataset in _datasets(file).items()}
    groups: dict[str, set[tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        groups.setdefault(name.partition("/")[0], set()).add(shape)
    assert groups == {
        "configuration": {()},
        "evaluated": {(1,)},
        "individuals": {(4,), (4, 9), (4, 2), (4, 16)},
        "failures": {(2,)},
        "sessions": {(2,)},
        "workers": {(3,)},
    }


@pytest.mark.parametrize("run", [some_run(), StoredRun("run-1", 0, CONFIG, population())], ids=["some", "empty"])
def test_all_types_are_of_fixed_length(tmp_path: Path, run: StoredRun) -> None:
    with opened(tmp_path, run) as file:
        items = [file, *_datasets(file).values()]
        types = [(item.name, item.id.get_type()) for item in items[1:]]
        types += [(f"{item.name}@{name}", item.attrs.get_id(name).get_type()) for item in items for name in item.attrs]
        assert len(types) > 100
        for name, kind in types:
            assert isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID | h5py.h5t.TypeEnumID) or (
                isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
            ), name


def test_every_dataset_says_what_it_means_and_in_which_unit(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        said = {name: dict(dataset.attrs) for name, dataset in _datasets(file).items()}
    assert len(said) > 30
    assert [
        name for name, attributes in said.items() if not attributes.get("description") or "unit" not in attributes
    ] == []
    assert said["individuals/training_seconds"] == {"description": b"training, all replicates", "unit": b"s"}


def test_datasets_lie_in_the_file_in_the_order_of_their_columns(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        tables = {name: _as_created(file[name]) for name in _as_created(file) if isinstance(file[name], h5py.Group)}
    assert tables == {
        "individuals": [
            *("id", "birth", "parent", "view", "redrawn", "known", "network", "network_version", "repeats", "genotype"),
            *("born", "state", "attempts", "accuracies", "replicates_trained", "fitness", "parameters"),
            *("setup_seconds", "training_seconds", "validation_seconds", "worker_seconds", "started", "finished"),
            *("rank", "host", "device", "failure"),
        ],
        "failures": ["individual", "attempt", "kind", "started", "finished", "rank", "host", "device", "message"],
        "sessions": ["started", "host", "pid", "ranks", "software", "data"],
        "workers": ["session", "rank", "host", "device", "training", "numbers", "slower"],
    }


def test_descriptions_are_part_of_the_format(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        assert file["failures/attempt"].attrs["description"] == b"number of the attempt at it, from 1"


def _as_created(group: h5py.Group) -> list[str]:
    return sorted(group, key=lambda name: int(h5py.h5o.get_info(group[name].id).addr))


def test_codes_carry_their_names(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        names = {name: h5py.check_enum_dtype(dataset.dtype) for name, dataset in _datasets(file).items()}
    kinds = {"NONE": 0} | {kind.name: int(kind) for kind in FailureKind}
    assert {name: codes for name, codes in names.items() if codes is not None} == {
        "individuals/birth": {"NONE": 0} | {birth.name: int(birth) for birth in Birth},
        "individuals/state": {"NONE": 0} | {state.name: int(state) for state in State},
        "individuals/failure": kinds,
        "failures/kind": kinds,
    }


# Writing


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", StoredRun("run-1", 0, CONFIG, population()))
    with h5py.File(tmp_path / "population.h5", "r", locking=False) as old:  # a tool that looks for long
        write(tmp_path / "population.h5", some_run())
        assert old["individuals/state"].shape == (0,)
    assert read(tmp_path).records == 9
    assert [path.name for path in tmp_path.iterdir()] == ["population.h5"]


def test_reading_asks_for_no_lock(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    with open(tmp_path / "population.h5", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read(tmp_path).records == 9


@pytest.mark.parametrize("limit", [0, 1, 4096, 16384])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, limit: int) -> None:
    write(tmp_path / "population.h5", StoredRun("run-1", 0, CONFIG, population()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # as near to a full disk as a test gets
    try:
        with pytest.raises(OSError) as caught:
            write(tmp_path / "population.h5", some_run())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert read(tmp_path).records == 0
    assert [path.name for path in tmp_path.iterdir()] == ["population.h5"]


# What is no run


def test_a_run_from_before_replicates_were_counted_has_whole_fitnesses(tmp_path: Path) -> None:
    run = some_run()
    write(tmp_path / "population.h5", run)
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        del file["individuals/replicates_trained"], file["individuals/worker_seconds"]
    assert_same(read(tmp_path).population, run.population)
    assert read(tmp_path).population.trainings == run.population.trainings > 0


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            StoreError, match=rf"^expected a run in {re.escape(str(folder))}, but there is no population\.h5$"
        ):
            read(folder)


def test_the_folder_of_a_retraining_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "retrain.h5").write_bytes(b"")
    with pytest.raises(StoreError, match=r"but there is no population\.h5; it holds a retraining$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("format", "shown"), [(None, "''"), ("other", "'other'"), (np.bytes_(b"other"), "'other'"), (5, "5")]
)
def test_a_foreign_file_is_refused(tmp_path: Path, format: object, shown: str) -> None:
    with h5py.File(tmp_path / "population.h5", "w") as file:
        if format is not None:
            file.attrs["format"] = format
    with pytest.raises(StoreError, match=rf"population\.h5: expected the format 'hpcnas run', got .*{shown}"):
        read(tmp_path)


def test_a_newer_format_is_refused_and_names_its_program(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        file.attrs["format_version"] = 2
        file.attrs["hpcnas_version"] = np.bytes_("9.1")
    with pytest.raises(StoreError, match=r"expected format version 1, got 2; use hpcnas 9\.1, which wrote it$"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["configuration", "evaluated", "individuals/state", "failures", "sessions/data"])
def test_a_file_with_something_missing_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        del file[name]
    with pytest.raises(StoreError, match=r"population\.h5: expected a whole file of a run, but it cannot be read: "):
        read(tmp_path)


def test_settings_that_cannot_be_used_are_refused_in_their_words(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        file["configuration"][...] = b"[search]\nspace = 'circle'"
    with pytest.raises(StoreError, match=r"^expected settings that can be used here: .*\.h5: search\.space: expected"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("failures/kind", 77, "failures, row 0: expected kind CRASH 1, OOM 2, HANG 3, OVERRUN 4, NAN 5, .*, got 77"),
        ("failures/individual", 99, "failures, row 0: expected an individual from 0 to 3, got 99"),
        ("failures/message", b"\xff", r"failures, row 0: expected message in UTF-8, got b'\\xff'"),
        ("individuals/state", 0, "individual 0: expected state ISSUED 1, EVALUATED 2, FAILED 3, STOPPED 4, got 0"),
        ("individuals/birth", 99, "individual 0: expected birth INITIAL 1, MUTATION 2, .*, CONFIRMATION 6, got 99"),
        ("individuals/genotype", 255, "individual 0: expected a genotype whose edge 0 has an .* 0 to 6, got 255"),
        ("individuals/parent", 10**9, "individual 0: expected a parent that was born before it, got 1000000000"),
        ("individuals/born", np.inf, "individual 0: expected born a number from 0 to 253402300799, got inf"),
        ("individuals/view", -1, "individual 0: expected view an integer ≥ 0, got -1"),
        ("individuals/fitness", np.nan, "individual 2: expected a fitness of .* that is EVALUATED, .*, got nan"),
        ("sessions/pid", -5, "sessions, row 0: expected pid an integer ≥ 0, got -5"),
        ("sessions/data", b"{}", "sessions, row 0: expected of the data image_channels, .*, fingerprint, .*got {}"),
        ("sessions/software", b"{", "sessions, row 0: expected software in JSON, got b'{'"),
        ("evaluated", 1, "place 0 in the order of evaluations: expected an individual that is EVALUATED, .*, got 1"),
        ("configuration", b"\xff", "expected a whole file of a run, but it cannot be read: "),
    ],
)
def test_a_file_that_no_run_has_written_is_refused(tmp_path: Path, name: str, value: object, reason: str) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        file[name][...] = value
    with pytest.raises(StoreError, match=rf"population\.h5: {reason}"):
        read(tmp_path)


def test_a_primitive_that_the_space_leaves_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "population.h5", some_run())
    with h5py.File(tmp_path / "population.h5", "r+") as file:
        text = file["configuration"][()].decode().replace("2x3/1x3", "2x3/1x3:1x1,id")
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
        file.attrs["space"] = np.bytes_(b"2x3/1x3:1x1,id")
    with pytest.raises(StoreError, match="individual 2: .* edge 0 has an operation of the space 2x3/1x3:1x1,id, got 2"):
        read(tmp_path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "population.h5"
    write(path, some_run())
    data = path.read_bytes()
    for size in [*range(0, len(data), 311), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(StoreError):
            read(tmp_path)


def test_damage_anywhere_is_refused_in_words_or_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "population.h5"
    write(path, some_run())
    data, refused = path.read_bytes(), 0
    for place in range(0, len(data), len(data) // 120):
        path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        try:
            read(tmp_path)  # whatever else it raises fails this test
        except StoreError:
            refused += 1
    assert refused > 20  # of about 120; HDF5 keeps no check sums of plain datasets


def test_json_in_the_file_is_json(tmp_path: Path) -> None:
    with opened(tmp_path, some_run()) as file:
        assert json.loads(file["sessions/software"][0]) == dict(SESSION.software)
        assert json.loads(file["sessions/data"][1])["fingerprint"] == SESSION.facts.fingerprint
