"""What tools that are no commands of the package yet share with those that are; what a person can mend ends them."""

from __future__ import annotations

from pathlib import Path

from hpcnas.analysis import runs
from hpcnas.analysis.runs import AnalysisError
from hpcnas.analysis.runs import motif_name as motif_name
from hpcnas.analysis.runs import spread as spread
from hpcnas.architecture.genotype import Genotype
from hpcnas.command.common import PICTURES as PICTURES
from hpcnas.command.common import fail as fail
from hpcnas.command.common import parser as parser
from hpcnas.command.common import picture_path as picture_path
from hpcnas.command.common import print_json as print_json
from hpcnas.command.common import run as run
from hpcnas.command.common import table as table
from hpcnas.search.references import WrongReference
from hpcnas.search.run_file import StoredRun


def load(folder: Path) -> StoredRun:
    """`runs.load` or the end of the tool."""
    try:
        return runs.load(folder)
    except AnalysisError as error:
        fail(str(error))


def individual(text: str) -> tuple[Path, StoredRun, int]:
    """`runs.individual` or the end of the tool."""
    try:
        return runs.individual(text)
    except WrongReference as error:
        fail(str(error))


def named_genotype(text: str) -> tuple[str, Genotype]:
    """`runs.named_genotype` or the end of the tool."""
    try:
        return runs.named_genotype(text)
    except WrongReference as error:
        fail(str(error))
