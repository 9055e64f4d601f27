"""What `summary` gives for a paper: a table of results as CSV or LaTeX, and a paragraph for the methods section."""

from __future__ import annotations

import argparse

from hpcnas.analysis import citations, results_table, retraining_description, retrainings, runs, search_description

_FORMS = ("json", "table1", "csv", "latex", "methods")
_TOGETHER = {"latex", "methods"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds --csv, --latex and --methods."""
    parser.add_argument("--csv", action="store_true", help="for a paper: the results as CSV, a row for each RUN")
    parser.add_argument("--latex", action="store_true", help="for a paper: the results as a table for LaTeX")
    parser.add_argument("--methods", action="store_true",
                        help="for a paper: what was done, in sentences, and BibTeX (--latex: for LaTeX)")  # fmt: skip


def asked_for(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether any of these options was given. Ends the command where they do not go with the others."""
    given = {name for name in _FORMS if getattr(options, name)}
    if not given & {"csv", "latex", "methods"}:
        return False
    if len(given) > 1 and given != _TOGETHER:
        listing = ", ".join(f"--{name}" for name in _FORMS if name in given)
        parser.error(f"expected one of them, or --methods --latex, got {listing}")
    return True


def text(options: argparse.Namespace) -> str:
    """What is to be printed. Raises AnalysisError where a folder holds no run, or they are mixed."""
    if all(map(retrainings.is_one, options.runs)):
        trained = [retrainings.load(folder) for folder in options.runs]
        if options.methods:
            return _methods([retraining_description.sentences(one) for one in trained], options.latex)
        rows = results_table.of_retrainings(trained)
        return results_table.latex_of_retrainings(rows) if options.latex else results_table.csv(rows).rstrip("\n")
    found = [(folder, runs.load(folder)) for folder in options.runs]
    if options.methods:
        return _methods([search_description.sentences(run) for _, run in found], options.latex)
    rows = results_table.of_searches(found)
    return results_table.latex_of_searches(rows) if options.latex else results_table.csv(rows).rstrip("\n")


def _methods(paragraphs: list[list[citations.Sentence]], as_latex: bool) -> str:
    write = citations.latex if as_latex else citations.plain
    cited = citations.bibtex(sentence for paragraph in paragraphs for sentence in paragraph)
    return "\n\n".join([*map(write, paragraphs), cited])
