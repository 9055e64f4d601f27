"""One HTML file that needs nothing else: its elements, tables, pictures and frame. What stands in it is the business of
`report`, of a search, and of `retraining_report`.

Every text is escaped where it becomes part of the page, unless it is `Html` already. The frame is
`report_template.html`: it forbids the browser to fetch anything. Nothing is written here.
"""

from __future__ import annotations

import datetime
import html
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from hpcnas import __version__
from hpcnas.analysis.figures import cells, style
from hpcnas.analysis.figures.style import Figure
from hpcnas.architecture.genotype import Genotype
from hpcnas.job import terminal
from hpcnas.job.session import Session

TEMPLATE = Path(__file__).with_name("report_template.html")


def escaped(text: str) -> str:
    """Text as HTML has it; backslashes and digits stand for what no page can hold, such as bytes that are not UTF-8."""
    return html.escape(terminal.printable(text))


class Html(str):
    """Text that is HTML already. Every other text is escaped where it becomes part of the page."""


def tag(name: str, *content: str | None, **attributes: object) -> Html:
    """An element. In names of attributes a trailing underscore is dropped, others are hyphens; None is left out."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{named}>{joined(content)}</{name}>")


def joined(parts: Iterable[str | None], between: str = "") -> Html:
    """Parts in a row; None is left out."""
    texts = (part if isinstance(part, Html) else escaped(part) for part in parts if part is not None)
    return Html(between.join(texts))


# ── the frame ───────────────────────────────────────────────────────────────────────────────────────────────────────
def framed(name: str, source: str, sections: Iterable[Html | None]) -> str:
    """The text of the whole file: these sections, and at the end when and from what (`source`) it was written."""
    now = datetime.datetime.now(datetime.UTC)
    footer = tag("footer", f"Written by hpcnas {__version__}, {now:%Y-%m-%d %H:%M} UTC, from {source}.")
    before, after = TEMPLATE.read_text(encoding="utf-8").split("@BODY@")
    return before.replace("@TITLE@", escaped(f"{name}: hpcnas")) + joined([*sections, footer], "\n") + after


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def tiles(shown: Iterable[tuple[str, str]]) -> Html:
    """Numbers on top of the page, each with what it is."""
    return tag("div", *(tag("div", tag("b", value), tag("span", label), class_="tile") for value, label in shown),
               class_="tiles")  # fmt: skip


def short(number: int) -> str:
    """A number in thousands or millions."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k" if number >= 1e3 else str(number)


def cell(title: str, name: str, genotype: Genotype) -> Html:
    """A cell drawn under a title, with the network that it stands for, and the genotype as text."""
    return joined(
        [
            tag("h2", title),
            picture(f"{title} and its motifs", cells.cell_picture(name, genotype)),
            hidden("the network that it stands for",
                   picture("The expanded cell", cells.expanded_picture(name, genotype))),
            hidden("the genotype as text", tag("div", tag("pre", genotype.text()), class_="box")),
        ]
    )  # fmt: skip


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str | int]], numbers: Collection[str] = ()
) -> Html | None:
    """A table, titled unless the title is empty, numbers and columns of these names to the right; nothing where there
    are no rows."""
    if not rows:
        return None
    looks = [
        "number" if isinstance(value, int) or name in numbers else None
        for name, value in zip(header, rows[0], strict=True)
    ]
    head = tag("tr", *(tag("th", name, class_=look) for name, look in zip(header, looks, strict=True)))
    body = [
        tag("tr", *(tag("td", str(value), class_=look) for value, look in zip(row, looks, strict=True))) for row in rows
    ]
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return joined([tag("h2", title) if title else None, tag("div", whole, class_="box scroll")])


def configuration(settings: str, sessions: Sequence[Session]) -> Html:
    """All settings; the data and the software of the last session."""
    lines = settings
    if sessions:
        last = sessions[-1]
        for title, values in (("data, as found", last.facts.record()), ("software", dict(last.software))):
            lines += f"\n# {title}\n" + "".join(f"#   {key}: {value}\n" for key, value in values.items())
    return joined([tag("h2", "Configuration"), hidden("all settings", tag("div", tag("pre", lines), class_="box"))])


def hidden(title: str, *content: str) -> Html:
    """What is shown after a click on the title."""
    return tag("details", tag("summary", title), *content)


def picture(title: str, figure: Figure) -> Html:
    """The figure as SVG within the page: its texts stay texts, its names are its own, and dots are fine enough."""
    text = style.as_svg(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
    look = f"max-width: {96 * figure.get_figwidth():.0f}px"
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escaped(title)}" style="{look}" ', 1)
    return tag("figure", Html(text))
