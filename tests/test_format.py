"""hpcnas/FORMAT.md against what the program writes: every group, dataset and attribute, every record of the journal,
and its example, which reads a run without hpcnas.

HPCNAS_DEMAND_H5DUMP   1: a missing h5dump fails its test instead of skipping it
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import curved
import examples
import h5py
import numpy as np
import pytest
from demand import absent, package

from hpcnas import __version__
from hpcnas.search.file_store import FileStore
from hpcnas.storage import journal

PAGE = (Path(__file__).parent.parent / "hpcnas" / "FORMAT.md").read_text(encoding="utf-8")
Table = list[dict[str, str]]


def section(title: str) -> str:
    """What stands between a heading and the next."""
    return re.split(r"^#+ ", PAGE.split(f"\n{title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str) -> list[Table]:
    """The tables of a text, a dictionary a row."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        header, _, *rows = ([cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in block.splitlines())
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def documented() -> dict[str, dict[str, str]]:
    """Rows of the page by the path of their dataset."""
    rows = {}
    for group in ("/", "/individuals", "/failures", "/sessions", "/workers"):
        (table,) = tables(section(f"### {group}"))
        rows |= {f"{group.strip('/')}/{row['dataset']}".strip("/"): row for row in table}
    return rows


ROWS = documented()


def fill(store: FileStore) -> None:
    """One of everything: an individual in flight and its repeat, one evaluated, one failed at its second attempt."""
    store.begin(examples.SESSION)
    store.join(examples.WORKER)
    for id in range(4):
        looked = {"repeats": 0, "network": bytes(range(16))} if id == 3 else {}
        store.birth(dataclasses.replace(examples.individual(id, parent=0 if id == 1 else None), **looked))
    store.advance(examples.evaluated(1, 0.5))
    store.settle(dataclasses.replace(examples.evaluated(1, 0.6), first=1))
    store.retry(dataclasses.replace(examples.failed(2), attempt=1))
    store.settle(examples.failed(2))
    store.commit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one of everything, under the name that the page's example uses."""
    folder = tmp_path_factory.mktemp("format") / "hpcnas-run"
    store = FileStore.create(folder, examples.CONFIG)
    fill(store)
    store.compact()
    store.close()
    return folder


def compared(folder: Path, what: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """A run's columns of individuals, once they are as the page says; the first individual has none of `what`."""
    (table,) = tables(section(f"### /individuals, with {what}"))
    with h5py.File(folder / "population.h5") as file:
        found = file["individuals"]
        usual = [path.partition("/")[2] for path in ROWS if "individuals/" in path]
        assert sorted(found) == sorted([*usual, *(row["dataset"] for row in table)])
        for row in table:
            dataset = found[row["dataset"]]
            assert (row["type"], row["description"], row["unit"]) == (
                type_of(dataset.dtype), dataset.attrs["description"].decode(), dataset.attrs["unit"].decode()
            )  # fmt: skip
            assert dataset.shape == tuple(sizes[name] for name in re.findall(r"\w+", row["shape"]))
            np.testing.assert_array_equal(dataset[0], float(row["none"]))
        return {name: dataset[()] for name, dataset in found.items()}


def test_columns_of_runs_with_rungs(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", curved.CONFIG)
    store.begin(examples.SESSION)
    examples.add_births(store, 3)
    store.settle(curved.trained(1, judged=2))
    store.settle(curved.stopped(2))
    store.compact()
    store.close()
    compared(tmp_path / "run", "rungs", {"individuals": 3, "curves": 4})


def test_columns_of_runs_with_measures(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    store.begin(examples.SESSION)
    examples.add_births(store, 2)
    row = (0.5, 0.4, 0.3, None, 1.25, 0.5, None, 0.25)
    result = examples.evaluated(1)
    store.settle(dataclasses.replace(result, outcome=dataclasses.replace(result.outcome, measures=(row, row))))
    store.compact()
    store.close()
    individuals = compared(tmp_path / "run", "measures", {"individuals": 2, "replicates": 2, "measures": 6})
    np.testing.assert_array_equal(individuals["class_accuracies"][1], [0.5, np.nan, 0.25] * 2)


def test_columns_of_runs_with_objectives(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    store.begin(examples.SESSION)
    examples.add_births(store, 2)
    result = examples.evaluated(1)
    store.settle(dataclasses.replace(result, outcome=dataclasses.replace(result.outcome, objective=(-0.5, None))))
    store.compact()
    store.close()
    individuals = compared(tmp_path / "run", "objectives", {"individuals": 2})
    np.testing.assert_array_equal(individuals["objective"], [np.nan, -0.5])


def test_columns_of_runs_with_images_on_the_host(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    store.begin(examples.SESSION)
    examples.add_births(store, 2)
    result = examples.evaluated(1)
    store.settle(dataclasses.replace(result, outcome=dataclasses.replace(result.outcome, waiting_seconds=0.5)))
    store.compact()
    store.close()
    individuals = compared(tmp_path / "run", "images on the host", {"individuals": 2})
    np.testing.assert_array_equal(individuals["waiting_seconds"], [np.nan, 0.5])


@pytest.fixture(scope="module")
def datasets(folder: Path) -> dict[str, h5py.Dataset]:
    """Every dataset of that run's file by its path."""
    found = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[path] = item
        else:
            assert f"### /{path}\n" in PAGE and not item.attrs

    file = h5py.File(folder / "population.h5", "r")
    file.visititems(visit)
    return found


def type_of(dtype: np.dtype) -> str:
    """A type in the page's words; a string with its length."""
    if h5py.check_enum_dtype(dtype):
        return "enum" if dtype.base == np.uint8 else f"enum over {dtype.base}"
    return f"string({dtype.itemsize})" if dtype.kind == "S" else dtype.name


def test_the_page_lists_every_dataset_and_no_other(datasets: dict[str, h5py.Dataset]) -> None:
    assert sorted(ROWS) == sorted(datasets)


@pytest.mark.parametrize("path", sorted(ROWS))
def test_a_dataset_is_as_the_page_says(path: str, datasets: dict[str, h5py.Dataset]) -> None:
    row, dataset = ROWS[path], datasets[path]
    found = type_of(dataset.dtype)
    assert row["type"] == (found if "(" in row["type"] else found.split("(")[0])
    sizes = {"individuals": 4, "edges": 9, "replicates": 2, "evaluated": 1, "failures": 2, "sessions": 1, "workers": 1}
    sizes |= {"hash": 16}
    named = re.findall(r"\w+", row["shape"].replace("scalar", ""))
    assert dataset.shape == tuple(sizes[name] for name in named)
    assert {name: value.decode() for name, value in dataset.attrs.items()} == {
        "description": row["description"],
        "unit": row["unit"],
    }
    assert dataset.dtype.byteorder in "|=<"
    assert dataset.fletcher32 == (dataset.ndim > 0)


def test_what_an_individual_in_flight_does_not_have(datasets: dict[str, h5py.Dataset]) -> None:
    for path, row in ROWS.items():
        if row["none"]:
            np.testing.assert_array_equal(datasets[path][0], float(row["none"]), path)
    assert (datasets["individuals/host"][0], datasets["individuals/device"][0]) == (b"", b"")


def test_enumerations(datasets: dict[str, h5py.Dataset]) -> None:
    (table,) = tables(section("### Enumerations"))
    written = {path: h5py.check_enum_dtype(dataset.dtype) for path, dataset in datasets.items()}
    assert {row["dataset"]: dict(pair.split() for pair in row["names and numbers"].split(", ")) for row in table} == {
        path: {name: str(number) for name, number in names.items()} for path, names in written.items() if names
    }


def test_attributes_of_the_file(folder: Path) -> None:
    (table,) = tables(section("### Attributes of the file"))
    with h5py.File(folder / "population.h5") as file:
        written = {
            name: (type_of(np.asarray(value).dtype).split("(")[0], "scalar") for name, value in file.attrs.items()
        }
        assert {row["attribute"]: (row["type"], row["shape"]) for row in table} == written
        assert file.attrs["format"] == b"hpcnas run"
        assert f"`format_version` is {file.attrs['format_version']}." in PAGE


def test_records_of_the_journal(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", examples.CONFIG)
    fill(store)
    records = journal.read(tmp_path / "run" / "journal").records
    store.close()
    kinds, parts = tables(section("## journal"))
    written: dict[str, list[str]] = {}
    inside: dict[str, list[str]] = {}
    for record in records:
        ((kind, data),) = record.items()
        written[kind] = list(dict.fromkeys([*written.get(kind, []), *data]))
        inside |= {name: list(part) for name, part in data.items() if name in {row["part"] for row in parts}}
    assert {row["record"]: re.findall(r"`(\w+)`", f"`{row['keys']}`") for row in kinds} == written
    assert {row["part"]: re.findall(r"`(\w+)`", f"`{row['keys']}`") for row in parts} == inside


def test_since_is_a_version_that_has_been() -> None:
    since = [row["since"] for table in tables(PAGE) for row in table if "since" in row]
    assert len(since) > 40
    now = [int(number) for number in __version__.split(".")]
    assert all([int(number) for number in version.split(".")] <= now for version in since)


def test_files_of_a_run(folder: Path) -> None:
    listed = {row["file"].strip("/") for row in tables(PAGE)[0]}
    assert {path.name for path in folder.iterdir()} <= listed


def test_the_example_reads_a_run_without_hpcnas(folder: Path) -> None:
    package("pandas")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    code += "\nimport sys\nassert 'hpcnas' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "2x3/1x3 1 evaluated"
    assert any(line.split() == "MUTATION 1.0 0.55 NaN 0.55 0.55 0.55 0.55 0.55".split() for line in others), done.stdout
    assert others[-1].split() == ["1", "0.55", "1001", "0"]


def test_h5dump_reads_a_run(folder: Path) -> None:
    if shutil.which("h5dump") is None:
        absent("no h5dump here: on Debian, `apt-get install hdf5-tools` brings it", "HPCNAS_DEMAND_H5DUMP")
    (command,) = re.findall(r"`(h5dump [^`]*)`", section("## Reading it"))
    done = subprocess.run(command.split(), cwd=folder.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nan, 0.55, nan, nan" in done.stdout.lower()
