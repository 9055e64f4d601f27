"""Draws a genotype as the paper's Appendix A does: the cell and every motif in use; and the network that it stands for.

GENOTYPE is `paper` (the cell of Appendix A), a FILE.toml, a RUN (its best individual) or RUN:ID. Edges on no path from
source to sink compute nothing and are left out. Without a file name, both pictures go to the current folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import motifs, runs
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("genotype", metavar="GENOTYPE", help="RUN, RUN:best, RUN:ID, FILE.toml or paper")
    parser.add_argument("--cell", type=common.picture_path, metavar="FILE", help="the cell and its motifs")
    parser.add_argument("--expanded", type=common.picture_path, metavar="FILE", help="the expanded network")
    options = parser.parse_args(arguments)
    name, genotype = runs.named_genotype(options.genotype)
    found = motifs.facts(name, genotype)
    wanted = {"cell": options.cell, "expanded": options.expanded}
    if not any(wanted.values()) and not options.json:
        wanted = {picture: Path(f"{name}-{picture}.png") for picture in wanted}
    if any(wanted.values()):
        from hpcnas.analysis.figures import cells, style  # the numbers need no matplotlib

        for draw, path in ((cells.cell_picture, wanted["cell"]), (cells.expanded_picture, wanted["expanded"])):
            if path:
                style.save(draw(name, genotype), path)
    if options.json:
        common.print_json(found)
        return 0
    rows = [(motif["name"], motif["uses"], ", ".join(motif["edges"])) for motif in found["motifs"]]
    print(common.table(("motif", "uses", "edges on a path"), rows))
    print(f"expanded: {found['nodes']} nodes, {found['edges']} edges")
    for path in filter(None, wanted.values()):
        print(f"written: {path}")
    return 0
