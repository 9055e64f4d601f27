"""The pages for people: what code cites has its heading, rooms have their row, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "hpcnas").rglob("*.md"), *(ROOT / "jobs").glob("*.md")])
CODE = [
    path
    for folder in ("hpcnas", "tests", "tools", "jobs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".c", ".sh", ".md"}
]
CITED = re.compile(r"(?<![\w-])([DP]\d{1,2})(?![\w.*(-])")


def cited() -> dict[str, str]:
    """Decisions and choices that stand in docstrings, comments and pages, each with a file that cites it."""
    found = {}
    for path in CODE:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"\([^()]*\b[DP]\d{1,2}\b[^()]*\)|\b[DP]\d{1,2}:", line):
                found.update(dict.fromkeys(CITED.findall(line), path.name))
    return found


def test_what_is_cited_has_its_heading() -> None:
    headings = re.findall(r"^### ([DP]\d+) ", ARCHITECTURE, re.M)
    assert {"D1", "D8", "P3"} <= set(cited()) <= set(headings)
    assert len(headings) == len(set(headings))


def test_every_room_has_its_row() -> None:
    rooms = {path.parent.name for path in (ROOT / "hpcnas").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/`", ARCHITECTURE, re.M)) == rooms


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_names_of_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", text):
        assert "://" in link or page.parent.joinpath(link).exists(), link
    for name in re.findall(r"`((?:hpcnas|tests|tools|jobs)/[\w/]+\.\w+)`", text):
        assert ROOT.joinpath(name).exists(), name
