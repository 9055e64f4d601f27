"""Retrainings compared: what their recipes differ in, their sizes, and their accuracies with confidence intervals.

Retrainings of one genotype, recipe and data whose seeds differ are one group, as if one retraining had trained them
all; the same seeds twice are two groups, since they are no new trainings. Differences are those of groups from the
first one. Test accuracies are of complete trainings; what diverged is counted. Draws nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcnas.analysis import confidence, training_curves
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config import data_spec
from hpcnas.config.retraining import SCHEME
from hpcnas.config.settings import fields_of
from hpcnas.retrain.record import Record, Validation

_ASIDE = ("training.seed", "training.epochs", "run.history_every")  # what a group may differ in: steps tell epochs


@dataclass(frozen=True)
class RetrainingGroup:
    """Retrainings of one design, of different seeds."""

    label: str
    members: list[Found]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies of the complete trainings, 0 to 1."""
        return [accuracy for each in self.members for accuracy in each.stored.test_accuracies]

    @property
    def top5(self) -> list[float]:
        """Likewise the shares whose class is among the best five; empty where there are 5 classes or fewer."""
        return [one.test_top5 for each in self.members for one in each.complete if one.test_top5 is not None]

    @property
    def validations(self) -> list[Validation]:
        """Of all trainings."""
        return [one for each in self.members for one in each.stored.validations]


def grouped(found: Sequence[Found]) -> list[RetrainingGroup]:
    """The retrainings by design, in the order of the first one of each. Raises AnalysisError where one is given twice,
    since the interval of a mean would be too narrow."""
    folders: dict[str, Found] = {}
    for each in found:
        if (other := folders.setdefault(each.stored.run, each)) is not each:
            raise AnalysisError(
                f"expected different retrainings, but {other.folder} and {each.folder} are one retraining"
            )
    groups: list[list[Found]] = []
    for each in found:
        alike = (group for group in groups if _belongs(each.stored, [other.stored for other in group]))
        if (group := next(alike, None)) is None:
            groups.append([each])
        else:
            group.append(each)
    return [RetrainingGroup(_label(group, found), group) for group in groups]


def _belongs(stored: Record, group: Sequence[Record]) -> bool:
    """Whether a retraining is of the design of a group, and of other seeds."""
    taken = {one.seed for other in group for one in other.trainings}
    return design(stored) == design(group[0]) and not taken & {one.seed for one in stored.trainings}


def _label(group: Sequence[Found], found: Sequence[Found]) -> str:
    names = [training_curves.name(each, found) for each in group]
    return ", ".join(names) if len(names) < 3 else f"{names[0]} … {names[-1]} ({len(names)})"


def design(stored: Record) -> dict[str, object]:
    """What decides what a training computes, but for its seed: settings by name, the genotype, the data, and the
    weights that it starts from."""
    chosen: dict[str, object] = {"genotype": stored.genotype}
    for section, kind in SCHEME.sections.items():
        settings = getattr(stored.recipe, section)
        for item in fields_of(kind):
            if not item.metadata["alterable"] and f"{section}.{item.name}" not in _ASIDE:
                chosen[item.name] = getattr(settings, item.name)
    return {**chosen, "data": stored.facts.fingerprint if stored.sessions else None, "weights": stored.weights}


def differences(groups: Sequence[RetrainingGroup]) -> list[tuple[str, list[str]]]:
    """What the groups differ in: its name, and its value in each of them, in words."""
    designs = [design(group.members[0].stored) for group in groups]
    differing = [name for name in designs[0] if any(one[name] != designs[0][name] for one in designs)]
    found = [(name, [_told(name, group, one) for group, one in zip(groups, designs, strict=True)])
             for name in differing]  # fmt: skip
    numbers = [_numbers(group) for group in groups]
    if len(set(numbers)) > 1:
        found.append(("numbers", numbers))
    return found


def _told(name: str, group: RetrainingGroup, chosen: dict[str, object]) -> str:
    """A value of a design in words; what is only known by a fingerprint, by its name."""
    stored = group.members[0].stored
    if name == "genotype":
        return stored.origin.source
    if name == "data" and stored.sessions:
        title = data_spec.title(stored.recipe.data.source, stored.facts.classes, stored.facts.fingerprint)
        return f"{title} ({stored.facts.fingerprint[:8]})"
    value = chosen[name]
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)


def _numbers(group: RetrainingGroup) -> str:
    """Types of the numbers of feature maps, of all sessions."""
    sessions = (one for each in group.members for one in each.stored.sessions)
    return ", ".join(sorted({one.numbers or "unknown" for one in sessions})) or "unknown"


def numbers(groups: Sequence[RetrainingGroup]) -> dict[str, Any]:
    """What the table shows, as JSON has it: accuracies from 0 to 1, None where there are none; half widths are of 95 %
    confidence intervals, NaN of a single training."""
    step = common_validation(groups)
    first = groups[0].accuracies
    told = []
    for group in groups:
        accuracies, stored = group.accuracies, group.members[0].stored
        apart: tuple[float | None, float | None] = (None, None)
        if accuracies and first and group is not groups[0]:
            apart = confidence.difference(accuracies, first)
        validated = [one.accuracy for one in group.validations if one.step == step]
        trainings = [one for each in group.members for one in each.stored.trainings]
        seconds = [one.training_seconds for each in group.members for one in each.complete]
        told.append(
            {
                "label": group.label,
                "retrainings": [str(each.folder) for each in group.members],
                "trainings": len(trainings),
                "complete": len(accuracies),
                "diverged": sum(len(each.stored.diverged) for each in group.members),
                "parameters": stored.parameters,
                "flops": stored.flops,
                "test_accuracy": statistics.fmean(accuracies) if accuracies else None,
                "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "test_accuracy_half": confidence.half_width(accuracies) if accuracies else None,
                "difference": apart[0],
                "difference_half": apart[1],
                "test_top5": statistics.fmean(group.top5) if group.top5 else None,
                "validation_accuracy": statistics.fmean(validated) if validated else None,
                "training_seconds": statistics.fmean(seconds) if seconds else None,
            }
        )
    rows = [{"setting": name, "values": values} for name, values in differences(groups)]
    return {"validation_step": step, "groups": told, "differences": rows, "remarks": remarks(groups)}


def common_validation(groups: Sequence[RetrainingGroup]) -> int | None:
    """The last step after which some training of every group was validated; None where there is none."""
    steps = set.intersection(*({one.step for one in group.validations} for group in groups))
    return max(steps, default=None)


def remarks(groups: Sequence[RetrainingGroup]) -> list[str]:
    """Why accuracies of these groups do not tell the recipes apart, a line each."""
    found = []
    records = [group.members[0].stored for group in groups if group.members[0].stored.sessions]
    if len({one.facts.fingerprint for one in records}) > 1:
        found.append("the data differ: so may the test images, and then accuracies say nothing of each other")
    if len({one.facts.validation_images for one in records}) > 1:
        found.append("validation images differ, or the images that are left to train on")
    if any(len(group.accuracies) == 1 for group in groups):
        found.append("a single training has no interval: --runs trains more seeds")
    return found
