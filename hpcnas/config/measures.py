"""What a fitness may measure (`--fitness`), by name: what it is called, its bounds, and how it is told.

    scores and labels of the validation images ─► measure ─► fitness: the larger, the better

Of a measure that is better when it is smaller, the fitness is the negative, as scikit-learn's `neg_log_loss` is: so all
that compares fitnesses, in the program and in its files, knows one direction. How measures are computed is the business
of `training.measuring`; a plugin brings others. Standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas import plugins

MOST = 1e6  # of a fitness, up or down: files hold no larger ones
MOST_CLASSES = 200  # of data of more classes, the accuracy of each class is not kept


@dataclass(frozen=True, slots=True)
class FitnessMeasure:
    """One of them. Bounds are those of the fitness, inclusive."""

    name: str  # as --fitness has it
    words: str  # what the fitness is of one training
    low: float
    high: float
    percent: bool = False  # whether people tell it in percent

    def told(self, fitness: float) -> str:
        """A fitness for a person: `84.21 %`, `-0.4213`."""
        return f"{self.number(fitness)} %" if self.percent else self.number(fitness)

    def number(self, fitness: float) -> str:
        """A fitness, or its deviation, without its unit."""
        return f"{100 * fitness:.2f}" if self.percent else f"{fitness:.4f}"

    def gain(self, difference: float) -> str:
        """A difference of two, with its sign."""
        return f"{100 * difference:+.2f}" if self.percent else f"{difference:+.4f}"

    @property
    def unit(self) -> str:
        """What follows the name of numbers of it."""
        return " (%)" if self.percent else ""

    @property
    def short(self) -> str:
        """What people call it in a word or two."""
        return "accuracy" if self.name == "accuracy" else "fitness"

    @property
    def remark(self) -> str:
        """What has to be said of a fitness where accuracy goes without saying: nothing for that."""
        return "" if self.name == "accuracy" else self.words


ACCURACY = FitnessMeasure("accuracy", "validation accuracy", 0.0, 1.0, percent=True)
BUILT_IN = (
    ACCURACY,
    FitnessMeasure("balanced-accuracy", "balanced validation accuracy", 0.0, 1.0, percent=True),
    FitnessMeasure("macro-f1", "validation macro F1", 0.0, 1.0),
    FitnessMeasure("auroc", "validation AUROC", 0.0, 1.0),
    FitnessMeasure("log-loss", "negative validation log loss", -MOST, 0.0),
)
"""All of these are kept with each replicate, in this order."""

NAMES = tuple(measure.name for measure in BUILT_IN)


def named(name: str) -> FitnessMeasure:
    """The measure of that name, of the program or a plugin's; of a plugin that is not loaded, its name alone is
    known."""
    if name in NAMES:
        return BUILT_IN[NAMES.index(name)]
    brought = plugins.measures().get(name)
    negative = "" if brought is None or brought.larger_is_better else "negative "
    return FitnessMeasure(name, f"{negative}validation {name}", -MOST, MOST)
