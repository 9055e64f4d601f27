"""Texts and tables for LaTeX: what comes from a run or a person is shown as it is, and obeyed nowhere.

A table needs the package booktabs. Letters beyond ASCII stay what they are: LaTeX of 2018 or later takes the Latin
ones, XeLaTeX and LuaLaTeX all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpcnas.job import terminal

_SHOWN = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"\textasciigrave{}",
    "±": r"\(\pm\)", "×": r"\(\times\)", "−": r"\(-\)", "–": "--", "†": r"\dag{}", "‡": r"\ddag{}",
}  # fmt: skip
_PATTERN = re.compile("|".join(map(re.escape, _SHOWN)) + "|-(?=-)")  # -- would be a dash


def escaped(text: str) -> str:
    """The text as LaTeX shows it, in one line; control characters as backslashes and digits."""
    return _PATTERN.sub(lambda found: _SHOWN.get(found[0], "-{}"), terminal.one_line(text))


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str | None]], right: Sequence[bool]) -> str:
    """A table of texts, each of which is escaped; None is a dash. `right` says which columns are set to the right."""
    lines = [[escaped(cell) if cell is not None else "--" for cell in row] for row in (header, *rows)]
    head, *body = [f"    {' & '.join(line)} \\\\" for line in lines]
    columns = "".join("r" if one else "l" for one in right)
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            head,
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )
