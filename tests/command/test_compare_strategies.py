"""`hpcnas compare-strategies`: two small policies from end to end, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcnas.command import compare_strategies
from hpcnas.errors import Error

SMALL = "--space 2x3/1x3 --initial-population 6 --initial-mutations 20"


def test_two_policies_as_table_picture_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"whole={SMALL}", f"raced={SMALL} --racing --scheduling replicate"]
    common = ["--seeds", "2", "--trainings", "240", "--workers", "3", "--results", str(tmp_path / "curves.json")]
    output = tmp_path / "found.png"
    assert compare_strategies.main(["--policies", *names, *common, "--output", str(output)]) == 0
    first = capsys.readouterr()
    assert output.stat().st_size > 10_000
    assert [line.split()[0] for line in first.out.splitlines()[1:3]] == ["whole", "raced"]
    assert "seed 1" in first.err
    assert compare_strategies.main(["--policies", *names, *common, "--json"]) == 0
    again = capsys.readouterr()
    assert again.err == "", "what the results hold is not searched for again"
    whole, raced = json.loads(again.out)["policies"]
    assert (whole["trainings_each"], whole["evaluations"]) == (2.0, 120.0)
    assert raced["trainings_each"] < 2.0 < raced["evaluations"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "unknown"], "expected a policy"),
        (["--policies", "odd=--no-such-option"], "--no-such-option"),
        (["--policies", "odd='--racing"], "No closing quotation"),
        (["--policies", "odd=--initial nowhere:top5"], "nowhere:top5: expected RUN, RUN:best, RUN:ID"),
        (["--policies", f"odd={SMALL} --max-parameters 1"], "but it would stop: "),
        (["--policies", "odd=--walltime 100"], "expected a walltime of more than"),
        (["--seeds", "0"], "at least one"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(Error) as raised:
        compare_strategies.main(arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": [{}]}', '{"a": [1]}'])
def test_results_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curves.json"
    path.write_text(text)
    for found in (path, tmp_path):
        with pytest.raises(Error, match=f"^{found}: expected results that --results has kept, but"):
            compare_strategies.main(["--policies", "paper", "--results", str(found)])


def test_results_that_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "no" / "curves.json"
    arguments = ["--policies", f"small={SMALL}", "--seeds", "1", "--trainings", "20", "--workers", "3"]
    with pytest.raises(Error, match=f"^expected to write {path}: No such file or directory$"):
        compare_strategies.main([*arguments, "--results", str(path)])
