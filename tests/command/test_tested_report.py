"""What `hpcnas report` shows of the test images of a retraining."""

from __future__ import annotations

import csv
import io
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

from test_report import Page
from test_retraining_report import words
from test_tested_retraining import data as data  # a fixture
from test_tested_retraining import folder as folder  # a fixture
from test_tested_retraining import said
from toolruns import INPUTS, retrained

from hpcnas.analysis import retraining_report, retrainings, tested, tested_report
from hpcnas.retrain import predictions, record_file


def test_classes_and_the_worst_mistakes_are_shown(folder: Path, data: Path) -> None:
    found = retrainings.load(folder)
    sections = tested_report.classes, tested_report.worst_mistakes
    text = words(Page("".join(section(found) or "" for section in sections)))
    assert set(sections) <= set(retraining_report.SECTIONS)
    assert "Classes" in text and "large, 2 trainings together: accuracy 66.67 % on 6 test images" in text
    assert "the accuracy of each class class accuracy % correct images dog 50.00 3 6 cat 75.00 3 4" in text
    assert "Worst mistakes" in text and "large, seed 0: 3 of 3 mistakes on 6 test images" in text
    assert "as cat (87.5 %)" in text


def test_names_of_classes_are_any_bytes_and_obey_nothing(tmp_path: Path) -> None:
    """In the page, also where matplotlib has no glyph of them, and in CSV, where they stay what they are."""
    names = ("<b>", "\udcff", "a\nb", '日,"\r')
    folder = retrained(tmp_path / "large", [1.0], inputs=replace(INPUTS, class_names=names))
    predictions.write(folder, record_file.read(folder), 0, said([0, 1, 2, 3], [1, 2, 3, 0], [0.5] * 4, files=False))
    with warnings.catch_warnings(action="error"):
        page = tested_report.classes(retrainings.load(folder))
    assert page is not None and "日" in page and r"\udcff as a\nb" in page
    assert "<b>" not in page and "&lt;b&gt; as" in page
    (kept,) = tested.of(retrainings.load(folder))
    header, *rows = csv.reader(io.StringIO(tested.confusion_table(kept.confusion, names), newline=""))
    assert (header[1:], [row[0] for row in rows]) == ([*names], [*names])


def test_what_cannot_be_had_costs_its_section_alone(folder: Path, data: Path) -> None:
    found = retrainings.load(folder)
    shutil.rmtree(data)
    shown = tested_report.worst_mistakes(found)
    assert shown is not None and f"no pictures of mistakes: expected the test images in imagefolder:{data}." in shown
    predictions.path(folder, 0).write_bytes(b"damaged")
    told = tested_report.classes(found)
    assert told is not None and 'class="bad"' in told and "predictions-0.h5: expected predictions" in told
    assert tested_report.worst_mistakes(found) is None
    for seed in (0, 1):
        predictions.path(folder, seed).unlink()
    assert tested_report.classes(found) is None and tested_report.worst_mistakes(found) is None
