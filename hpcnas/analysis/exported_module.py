"""A genotype as a Python file with its network, which needs torch alone: the text, from the template beside this file.

Of the template, the part from @TRAINED to @END is left out where nothing was trained. Writes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from hpcnas import __version__
from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype, operation_names
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain.record import Inputs

TEMPLATE = Path(__file__).with_name("network_template.txt")
TRAINED = re.compile(r"# @TRAINED\n(.*)# @END\n", re.DOTALL)


def text(genotype: Genotype, skeleton: Skeleton, title: str, quality: str, inputs: Inputs | None) -> str:
    """The file's text: `Network()` is the skeleton's; where there are `inputs`, `load(FILE)` gives it weights."""
    parameters = sizes.size(expansion.expand(genotype), skeleton).parameters
    header = (
        f"{printable(title)}\n\n{printable(quality)}; search space: {genotype.space}.\n"
        f"Written by hpcnas {__version__}. Needs torch alone. `Network()` has {parameters:,} parameters.\n"
    )
    if inputs is None:
        larger = f"channels={4 * skeleton.channels}, cells={tuple(2 * cells for cells in skeleton.cells)}"
        header += f"A larger one for the same kind of images: `Network({larger})`.\n"
    else:
        header += "`load(FILE)` gives it its weights, which lie in a file of their own.\n"
    result = TEMPLATE.read_text(encoding="utf-8")
    result = TRAINED.sub("" if inputs is None else r"\1", result)
    result = result.replace("@HEADER@", header).replace('"@LEVELS@"', literal(genotype))
    values = {
        "CHANNELS": str(skeleton.channels),
        "CELLS": repr(skeleton.cells),
        "STEM": f'"{skeleton.stem}"',
        "CLASSES": str(skeleton.classes),
        "IMAGE_CHANNELS": str(skeleton.image_channels),
    }
    if inputs is not None:
        values |= {
            "MEAN": repr(inputs.mean),
            "STD": repr(inputs.std),
            "RESIZE": str(inputs.resize),
            "HEIGHT": str(skeleton.height),
            "WIDTH": str(skeleton.width),
            "CLASS_NAMES": listed(inputs.class_names),
        }
    for name, value in values.items():
        result = result.replace(f'"@{name}@"', value)
    return result


def listed(names: Sequence[str]) -> str:
    """Names as a Python literal, one a line where they are many."""
    words = [_quoted(name) for name in names]
    line = f"({', '.join(words)}{',' * (len(words) == 1)})"
    return line if len(line) <= 100 else "(\n" + "".join(f"    {word},\n" for word in words) + ")"


def _quoted(name: str) -> str:
    """A name as a Python literal; a folder's may be of any bytes."""
    if name.isprintable():
        return json.dumps(name, ensure_ascii=False)
    escaped = name.encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{escaped}"'


def printable(text: str) -> str:
    """A text that can stand in a docstring: whatever could end it or does not print is left out."""
    return "".join(character for character in text if character.isprintable() and character not in '"\\')


def literal(genotype: Genotype) -> str:
    """Those motifs that the cell uses and their edges on a path, as a Python literal."""
    live, top = expansion.live_edges(genotype), genotype.space.top
    used, lines = {0}, ["{"]  # motifs of the level at hand
    for level in range(top, 1, -1):
        names = operation_names(genotype.space, level)
        lines.append(f"    {level}: {{")
        for motif in sorted(used):
            name = "cell" if level == top else f"M{motif + 1}"
            lines.append(f'        "{name}": {{')
            for node in sorted({successor for _, successor, _ in live[level, motif]}):
                inputs = [(j + 1, names[code - 1]) for j, i, code in live[level, motif] if i == node]
                lines += _wrapped(f"            {node + 1}: ", [f'({j}, "{name}")' for j, name in inputs])
            lines.append("        },")
        lines.append("    },")
        used = {code - 1 for motif in used for _, _, code in live[level, motif]}
    return "\n".join([*lines, "}"])


def _wrapped(start: str, items: list[str]) -> list[str]:
    line = f"{start}[{', '.join(items)}],"
    if len(line) <= 120:
        return [line]
    return [f"{start}[", *(f"                {item}," for item in items), "            ],"]
