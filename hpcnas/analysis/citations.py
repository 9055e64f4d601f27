"""What a methods paragraph is made of: sentences, the works that they cite, and these as BibTeX.

`CITATION.cff` says the same of this program and of the paper whose method it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcnas.analysis import latex_text


@dataclass(frozen=True)
class CitedWork:
    """What can be cited."""

    key: str
    short: str  # as a text without a list of references names it
    kind: str  # of BibTeX
    fields: tuple[tuple[str, str], ...]  # of BibTeX, in its own form
    versions: tuple[str, ...] = ()  # of this program


@dataclass(frozen=True)
class Sentence:
    """One sentence of plain text, without its full stop, and what it cites."""

    text: str
    works: tuple[CitedWork, ...] = ()


PAPER = CitedWork(
    "liu2018hierarchical", "Liu et al. 2018", "inproceedings",
    (
        ("title", "Hierarchical Representations for Efficient Architecture Search"),
        ("author", "Liu, Hanxiao and Simonyan, Karen and Vinyals, Oriol and Fernando, Chrisantha and "
                   "Kavukcuoglu, Koray"),
        ("booktitle", "International Conference on Learning Representations"),
        ("year", "2018"),
        ("note", "arXiv:1711.00436"),
    ),
)  # fmt: skip
AGING = CitedWork(
    "real2019regularized", "Real et al. 2019", "inproceedings",
    (
        ("title", "Regularized Evolution for Image Classifier Architecture Search"),
        ("author", "Real, Esteban and Aggarwal, Alok and Huang, Yanping and Le, Quoc V."),
        ("booktitle", "Proceedings of the AAAI Conference on Artificial Intelligence"),
        ("volume", "33"),
        ("pages", "4780--4789"),
        ("year", "2019"),
    ),
)  # fmt: skip
NSGA2 = CitedWork(
    "deb2002nsga2", "Deb et al. 2002", "article",
    (
        ("title", "A Fast and Elitist Multiobjective Genetic Algorithm: {NSGA-II}"),
        ("author", "Deb, Kalyanmoy and Pratap, Amrit and Agarwal, Sameer and Meyarivan, T."),
        ("journal", "IEEE Transactions on Evolutionary Computation"),
        ("volume", "6"),
        ("number", "2"),
        ("pages", "182--197"),
        ("year", "2002"),
    ),
)  # fmt: skip
THOMPSON = CitedWork(
    "kandasamy2018parallelised", "Kandasamy et al. 2018", "inproceedings",
    (
        ("title", "Parallelised {Bayesian} Optimisation via {Thompson} Sampling"),
        ("author", r"Kandasamy, Kirthevasan and Krishnamurthy, Akshay and Schneider, Jeff and P{\'o}czos, "
                   r"Barnab{\'a}s"),
        ("booktitle", "International Conference on Artificial Intelligence and Statistics"),
        ("pages", "133--142"),
        ("year", "2018"),
    ),
)  # fmt: skip


def program(versions: Iterable[str | None]) -> CitedWork:
    """This program, in the versions that were used; None is one that is not known."""
    used = tuple(dict.fromkeys(filter(None, versions))) or ("of unknown version",)
    told = f"hpcnas {joined(used)}"
    title = "{hpcnas}: evolutionary search for hierarchical neural network architectures, as one {MPI} program"
    author, note = "{the hpcnas authors}", latex_text.escaped(told)
    return CitedWork("hpcnas", told, "misc", (("title", title), ("author", author), ("note", note)), used)


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def plain(sentences: Sequence[Sentence]) -> str:
    """The paragraph, in lines of up to 100 characters."""
    texts = []
    for one in sentences:
        cited = f" ({'; '.join(work.short for work in one.works)})" if one.works else ""
        texts.append(f"{one.text}{cited}.")
    return textwrap.fill(" ".join(texts), 100, break_long_words=False, break_on_hyphens=False)


def latex(sentences: Sequence[Sentence]) -> str:
    """The paragraph for LaTeX, a sentence a line."""
    lines = []
    for one in sentences:
        cited = rf"~\cite{{{','.join(work.key for work in one.works)}}}" if one.works else ""
        lines.append(f"{latex_text.escaped(one.text)}{cited}.")
    return "\n".join(lines)


def bibtex(sentences: Iterable[Sentence]) -> str:
    """The entries of all works that they cite, each once; that of this program has all versions that any cites."""
    works = list(dict.fromkeys(work for one in sentences for work in one.works))
    cited = [work for work in works if not work.versions]
    if len(cited) < len(works):
        cited.append(program(version for work in works for version in work.versions))
    return "\n\n".join(
        f"@{work.kind}{{{work.key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in work.fields) + "}"
        for work in cited
    )
