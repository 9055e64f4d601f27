"""One page about a run, as one HTML file that needs nothing else: for the browser, for mail, for the archive.

Of a search it holds the outcome, the best cell drawn, the course of the search, the lineage of the best, a table of all
individuals (click on a heading to sort it), failures, sessions and the whole configuration. Of a retraining it holds
the test accuracies, the cell and where it comes from, a table and the curves of its trainings, which classes are taken
for which, the worst mistakes on test images, departures from the paper, sessions, broken images and the whole recipe.
The run may be under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import retrainings
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common
from hpcnas.storage.output import write_output


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: NAME.html, here)")
    options = parser.parse_args(arguments)
    text, counted = _page(options.run)
    page = options.output or Path(f"{options.run.resolve().name}.html")
    try:
        write_output(page, text)
    except OSError as error:
        raise AnalysisError(f"{page}: expected to write it: {error.strerror}") from error
    size = page.stat().st_size
    if options.json:
        common.print_json({"output": str(page), "bytes": size, **counted})
    else:
        print(f"written: {page} ({size / 1e6:.1f} MB)")
    return 0


def _page(folder: Path) -> tuple[str, dict[str, int]]:
    """The page, and how many there are of what it lists. What draws, with matplotlib, is imported here."""
    if retrainings.is_one(folder):
        from hpcnas.analysis import retraining_report

        found = retrainings.load(folder)
        return retraining_report.page(found), {"trainings": len(found.stored.trainings)}
    from hpcnas.analysis import report

    run = Curves.of(folder)
    return report.page(run), {"individuals": len(run.stored.population)}
