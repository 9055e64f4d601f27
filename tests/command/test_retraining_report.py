"""`hpcnas report` of a retraining: what stands on the page, whatever is in the retraining, and in a real browser."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_report import EVIL, Page, browsed, chromium
from whole_retraining import kept, recorded

from hpcnas.analysis import html_page, retraining_report, retrainings
from hpcnas.analysis.retrainings import Found
from hpcnas.command import report
from hpcnas.errors import Error
from hpcnas.retrain.record import Origin, State

__all__ = ["chromium"]  # a fixture
CURVES = "Loss, accuracy, learning rate, images a second and waiting against the step"


def written(folder: Path) -> str:
    target = folder.with_name("page.html")
    assert report.main([str(folder), "-o", str(target)]) == 0
    return target.read_text(encoding="utf-8")


def words(page: Page) -> str:
    return " ".join(" ".join(page.texts).split())


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a retraining with two complete trainings, one under way and one that waits."""
    states = (State.COMPLETE, State.COMPLETE, State.TRAINING, State.WAITING)
    folder = tmp_path_factory.mktemp("retraining") / "large"
    written(kept(folder, recorded(states)))
    return folder.with_name("page.html")


@pytest.fixture(scope="module")
def page(html: Path) -> Page:
    return Page(html.read_text(encoding="utf-8"))


def test_the_outcome_stands_on_top(page: Page) -> None:
    text = words(page)
    assert "large running · 4 channels, cells 1 · digits · 4 × 40 steps of 64 images" in text
    assert "62.50 % test accuracy ± 17.68, mean of 2 trainings 37.50 % test error" in text
    assert "100 steps saved of 160, 2 of 4 trainings complete" in text


def test_results_and_trainings_are_tables(page: Page) -> None:
    text = words(page)
    assert "0 75.00 25.00 97.50 0.5000 360 1970-01-01 00:18:20 UTC" in text
    assert "mean ± std 62.50 ± 17.68 37.50 ± 17.68 97.50 ± 0.00" in text
    assert "0 complete 40 of 40 0.5000 50.00 50.00 0.0001 640 12.5 4 s" in text
    assert "2 training 20 of 40 1.5000 25.00 25.00 0.1 640 12.5 2 s" in text
    assert "3 waiting 0 of 40" in text


def test_the_cell_its_origin_and_departures(page: Page) -> None:
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert labels == [CURVES, "The cell and its motifs", "The expanded cell"]
    text = words(page)
    assert "Its genotype: cell.toml, 2x3/1x3 space." in text
    assert "departures from the paper's recipe: cells (1,), steps 40, batch_size 64," in text
    assert "1970-01-01 00:16:40 UTC 2 node-1 cpu float32 0.2.0 2 none" in text
    assert any("validate_every = 20" in one and "fingerprint: d1917500" in one for one in page.texts)


def test_where_an_individual_comes_from_is_said() -> None:
    found = Origin("runs/a:7", "flat", "5" * 32, 7, "tournament", 0.9125, 6, 40, True, departures="channels 8")
    told = retraining_report.origin(found)
    assert told == (
        "Its genotype: individual 7 of a search, given as runs/a:7, flat space, fitness 91.25 %, number 7 of 40 that "
        "were evaluated by then, the best of them; found by evolution, 40, channels 8"
    )


def test_nothing_is_fetched_and_ids_are_there_once(html: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), f"{tag} {name}"
    assert not {"link", "iframe", "img", "object", "base"} & {tag for tag, _ in page.tags}
    assert max(Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes).values()) == 1


def test_no_training_has_begun(tmp_path: Path) -> None:
    found = retrainings.load(kept(tmp_path / "new", recorded((State.WAITING,))))
    assert "– test accuracy: no training is complete yet" in words(Page(retraining_report.outcome(found)))
    assert retraining_report.results(found) is None and retraining_report.curves(found) is None
    assert retraining_report.departures(Found(tmp_path, replace(found.stored, sessions=[]))) is None


def test_what_diverged_is_said_and_what_is_validated_shown(tmp_path: Path) -> None:
    found = Found(tmp_path, recorded((State.COMPLETE, State.DIVERGED)))
    assert "Diverged, and not in the mean: seed 1." in words(Page(str(retraining_report.results(found))))
    assert "75.00 % test accuracy, one training" in words(Page(retraining_report.outcome(found)))
    text = words(Page(retraining_report.outcome(Found(tmp_path, recorded((State.DIVERGED, State.TRAINING))))))
    assert "25.00 % validation accuracy of seed 1 after step 20" in text and "1 diverged" in text


def test_memory_is_told_of_gpus_alone(tmp_path: Path) -> None:
    record = recorded()
    assert "GPU memory" not in str(retraining_report.trainings(Found(tmp_path, record)))
    record.trainings[0] = replace(record.trainings[0], peak_memory=3 << 29)
    assert "4 s 1.50 GiB" in words(Page(str(retraining_report.trainings(Found(tmp_path, record)))))


def test_whatever_stands_in_a_retraining_is_text(tmp_path: Path) -> None:
    record = recorded()
    record.sessions = [replace(record.sessions[0], host=EVIL, device=EVIL, software={"hpcnas": EVIL, "torch": EVIL})]
    record.origin = replace(record.origin, source=EVIL, space=EVIL)
    record.broken = [EVIL, "train/\udcff.png"]
    text = written(kept(tmp_path / '<b>"x" & y@BODY@', record))
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert text.count("<b>") == 5 and 'alert("1")' not in text
    assert page.texts.count(EVIL) >= 3
    assert '<b>"x" & y@BODY@' in page.texts
    assert f"{EVIL}\ntrain/\\udcff.png" in page.texts and "2 images of the data could not be read" in page.texts


def test_only_so_many_broken_images_are_named(tmp_path: Path) -> None:
    found = Found(tmp_path, replace(recorded(), broken=[f"{number}.png" for number in range(1002)]))
    section = retraining_report.broken(found)
    assert section is not None and "999.png\n… and 2 more" in section and "1000.png" not in section


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = kept(tmp_path / "large", recorded())
    assert report.main([str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"output": "large.html", "bytes": (tmp_path / "large.html").stat().st_size, "trainings": 3}
    (folder / "retrain.h5").write_bytes(b"\x89HDF\r\n\x1a\n half a file")
    with pytest.raises(Error, match="expected a whole file of a retraining"):
        report.main([str(folder)])


def test_numbers_of_pages_are_short() -> None:
    assert [html_page.short(number) for number in (999, 15_727_306, 20_480)] == ["999", "15.7 M", "20.5 k"]


def test_a_browser_has_nothing_to_complain_of(chromium: str, html: Path, tmp_path: Path) -> None:
    assert "62.50 % test accuracy" in words(browsed(chromium, html.as_uri(), tmp_path))
