"""Tables of real trainings: which genotype is which row, what trainings give, and what is no table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import CELLS, CHAINS, RISING, cell_rows, cells, chains, rising, write_cells

from hpcnas.analysis import benchmark_tables
from hpcnas.analysis.benchmark_tables import LAYOUTS, TableForesight, is_chain, read
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig


def config(space: str) -> SearchConfig:
    evaluation = {"evaluator": "synthetic", "synthetic_noise": 0.01}
    return search_config.build({"search": {"space": space}, "training": {"replicates": 1}, "evaluation": evaluation})


def test_the_published_tables_are_of_that_many_architectures() -> None:
    cells, chains = LAYOUTS["nas-bench-201"], LAYOUTS["nas-bench-macro"]
    assert (cells.rows, cells.chains, chains.rows, chains.chains) == (15_625, False, 6_561, True)
    assert chains.places == (0, 2, 5, 9, 14, 20, 27, 35)


def test_digits_are_edges_in_the_order_of_the_array_form(tmp_path: Path) -> None:
    table = cells(tmp_path)
    genotype = Genotype(CELLS.space, bytes([6, 0, 3]))
    assert table.digits(genotype) == [1, 0, 2] and table.genotype([1, 0, 2]) == genotype
    assert table.row(genotype) == 9 + 2
    assert table.truth[11] == 0.61


def test_the_best_of_a_table(tmp_path: Path) -> None:
    table = cells(tmp_path)
    assert table.best == table.goal(0.001) == table.goal(1 / 27) == 0.80
    assert table.goal(0.1) == 0.71, "the third of 27"


def test_chains_are_drawn_and_mutated_as_chains_alone(tmp_path: Path) -> None:
    breeding = benchmark_tables.breeding(chains(tmp_path), config("1x3:sep,id"))
    generator = np.random.default_rng(0)
    drawn = [breeding.draw_initial(generator) for _ in range(30)]
    mutants = [breeding.draw_mutant(drawn[0], generator) for _ in range(30)]
    every = {bytes([one, 0, other]) for one in (3, 6) for other in (3, 6)}
    assert {genotype.codes for genotype in drawn} == every
    opposite = bytes(9 - code if code else 0 for code in drawn[0].codes)
    assert {genotype.codes for genotype in mutants} == every - {opposite}
    assert all(map(breeding.allowed, drawn))
    for codes in (bytes([3, 6, 3]), bytes([3, 0, 0])):
        assert not is_chain(Genotype(CHAINS.space, codes)) and not breeding.allowed(Genotype(CHAINS.space, codes))


def test_sizes_are_the_tables_where_it_has_them(tmp_path: Path) -> None:
    genotype = Genotype(CHAINS.space, bytes([6, 0, 3]))
    assert benchmark_tables.breeding(chains(tmp_path), config("1x3:sep,id")).size(genotype) == Size(20, 200)
    assert benchmark_tables.breeding(cells(tmp_path), config("1x3:sep,id")).size(genotype).parameters > 1000


def test_a_training_gives_one_of_those_of_the_table(tmp_path: Path) -> None:
    foresight = TableForesight(config("1x3:sep,id"), chains(tmp_path))
    accuracies, parameters = foresight.trained(Genotype(CHAINS.space, bytes([3, 0, 3])), range(20))
    assert set(accuracies) == {0.7, 0.8} and parameters == 40
    assert foresight.trained(Genotype(CHAINS.space, bytes([3, 0, 3])), range(20))[0] == accuracies


def test_where_the_table_has_means_alone_noise_is_drawn(tmp_path: Path) -> None:
    foresight = TableForesight(config("1x3:sep,id"), cells(tmp_path))
    accuracies, _ = foresight.trained(Genotype(CELLS.space, bytes([3, 0, 3])), range(400))
    assert abs(np.mean(accuracies) - 0.70) < 0.002
    assert abs(np.std(accuracies) - 0.01) < 0.002


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"expected the table cells, but: No such file .* figures of the"):
        read(CELLS, tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected 27 architectures, got 0"),
        (cell_rows()[:-1], "expected 27 architectures, got 26"),
        ([*cell_rows(), "222,1"], "expected 27 architectures, got 28"),
        ([*cell_rows()[:-1], "221,50"], "architecture 27 of 27: expected 222, got '221'"),
        ([*cell_rows()[:-1], "222,nan"], "architecture 222: expected a number from 0 to 100 as accuracy, got 'nan'"),
        ([*cell_rows()[:-1], "222,101"], "from 0 to 100 as accuracy, got '101'"),
        ([*cell_rows()[:-1], "222,"], "from 0 to 100 as accuracy, got ''"),
        ([*cell_rows()[:-1], "222"], "from 0 to 100 as accuracy, got None"),
        ([*cell_rows()[:-1], "222,70,1"], "architecture 222: expected 2 values, got more: make it again"),
        ([*cell_rows()[:-1], '222,"70'], "expected a table in CSV, but: unexpected end of data"),
        ([*cell_rows()[:-1], "222,7\0"], "architecture 222: expected a number from 0 to 100 as accuracy, got '7"),
    ],
)
def test_a_damaged_table(tmp_path: Path, rows: list[str], message: str) -> None:
    write_cells(tmp_path, rows)
    with pytest.raises(AnalysisError) as caught:
        read(CELLS, tmp_path)
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    write_cells(tmp_path, header="\ufeffarchitecture,accuracy")
    assert read(CELLS, tmp_path).best == 0.80


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    write_cells(tmp_path, [f"{row},1" for row in cell_rows()], header="architecture,accuracy,accuracy")
    with pytest.raises(
        AnalysisError, match="expected columns of different names, got architecture, accuracy, accuracy$"
    ):
        read(CELLS, tmp_path)


def test_what_is_no_such_table(tmp_path: Path) -> None:
    write_cells(tmp_path, header="architecture,loss")
    with pytest.raises(AnalysisError, match="expected a column accuracy, got architecture, loss"):
        read(CELLS, tmp_path)
    (tmp_path / "cells.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnalysisError, match="expected a table in CSV"):
        read(CELLS, tmp_path)
    (tmp_path / "cells.csv").write_bytes(b"")
    with pytest.raises(AnalysisError, match="expected a column architecture, got none"):
        read(CELLS, tmp_path)


# Rungs


def test_the_published_cells_have_a_rung_after_12_of_200_epochs() -> None:
    assert LAYOUTS["nas-bench-201"].rungs == ((0.06, "validation_12_epochs"),)
    assert LAYOUTS["nas-bench-macro"].rungs == ()


def climbing(folder: Path, rungs: list[float], noise: float = 0.0) -> TableForesight:
    made = {"search": {"space": "1x3:sep,id"}, "training": {"replicates": 1, "rungs": rungs}}
    noisy = {"evaluation": {"evaluator": "synthetic", "synthetic_noise": noise}}
    return TableForesight(search_config.build(made, noisy), rising(folder))


def test_accuracies_at_rungs_are_those_of_the_table_whichever_rungs_are_asked_for(tmp_path: Path) -> None:
    genotype = Genotype(CELLS.space, bytes([6, 0, 3]))  # row 11 of accuracy 61
    assert rising(tmp_path).early[11].tolist() == [0.21, 0.305]
    assert climbing(tmp_path, [0.1, 0.5]).curve(genotype, 0.9, 1) == (0.21, 0.305)
    assert climbing(tmp_path, [0.5]).curve(genotype, 0.9, 1) == (0.305,)
    noisy = climbing(tmp_path, [0.5], noise=0.01)
    assert noisy.curve(genotype, 0.9, 1) == noisy.curve(genotype, 0.9, 1) != noisy.curve(genotype, 0.9, 2)


def test_rungs_that_are_not_in_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"^rising: expected rungs that are in it \(0.1, 0.5\), got 0.3$"):
        climbing(tmp_path, [0.1, 0.3])
    made = search_config.build({"search": {"space": "1x3:sep,id"}, "training": {"rungs": [0.1]}})
    with pytest.raises(AnalysisError, match=r"^cells: expected rungs that are in it \(none\), got 0.1$"):
        TableForesight(made, cells(tmp_path))


def test_a_table_without_its_early_accuracies_is_refused(tmp_path: Path) -> None:
    rising(tmp_path)
    text = (tmp_path / "rising.csv").read_text()
    (tmp_path / "rising.csv").write_text(text.replace(",half", ",late", 1))
    with pytest.raises(AnalysisError, match="expected a column half, got architecture, accuracy, soon, late"):
        read(RISING, tmp_path)
