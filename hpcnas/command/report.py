"""One page about a run, as one HTML file that needs nothing else: for the browser, for mail, for the archive.

It holds the outcome, the best cell drawn, the course of the search, the lineage of the best, a table of all individuals
(click on a heading to sort it), failures, sessions and the whole configuration. The run may be under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis.curves import Curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: NAME.html, here)")
    options = parser.parse_args(arguments)
    from hpcnas.analysis.report import page  # draws, with matplotlib

    run = Curves.of(options.run)
    output = options.output or Path(f"{options.run.resolve().name}.html")
    try:
        output.write_text(page(run), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"{output}: expected to write it: {error.strerror}") from error
    size = output.stat().st_size
    if options.json:
        common.print_json({"output": str(output), "bytes": size, "individuals": len(run.stored.population)})
    else:
        print(f"written: {output} ({size / 1e6:.1f} MB)")
    return 0
