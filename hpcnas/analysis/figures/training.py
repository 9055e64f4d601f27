"""The curves of retrainings, as a picture of what `hpcnas.analysis.training_curves` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcnas.analysis import training_curves
from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Axes, Figure, Line2D
from hpcnas.analysis.retraining_comparison import RetrainingGroup
from hpcnas.analysis.retrainings import Found

TRAINING, VALIDATION = "on augmented training images", "on validation images"
TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy (%)",
    "rate": "Learning rate",
    "speed": "Training images a second",
    "wait": "Waiting for images (% of the time)",
}


@dataclass(frozen=True)
class Curve:
    """The training of one seed as it is drawn."""

    found: Found
    seed: int
    label: str
    colour: str


@style.in_house_style
def training_curves_picture(found: Sequence[Found]) -> Figure:
    """Against the step: loss and accuracy on training images and, where there are any, on validation images; learning
    rate, images a second, and the share of the time spent waiting for images. A colour for each training. Retrainings
    without a curve are left out. Raises AnalysisError where all are."""
    found = training_curves.require_curves(found)
    drawn = [(each, seed) for each in found for seed in training_curves.seeds_with_curves(each.stored)]
    labels = [f"{training_curves.name(each, found)}, seed {seed}" for each, seed in drawn]
    return _picture(found, [Curve(*drawn[number], label, _colour(number)) for number, label in enumerate(labels)])


@style.in_house_style
def compared_curves_picture(groups: Sequence[RetrainingGroup]) -> Figure:
    """Likewise, with a colour for each group of retrainings."""
    found = training_curves.require_curves([each for group in groups for each in group.members])
    curves = [
        Curve(each, seed, group.label, _colour(number))
        for number, group in enumerate(groups)
        for each in group.members
        for seed in training_curves.seeds_with_curves(each.stored)
    ]
    return _picture(found, curves)


def _colour(number: int) -> str:
    return style.COLOURS[number % len(style.COLOURS)]


def _picture(found: Sequence[Found], curves: Sequence[Curve]) -> Figure:
    """The curves of these retrainings, a line of the legend for each label."""
    figure = style.new_figure(10.5, 7.6)
    panels: dict[str, Axes] = figure.subplot_mosaic(
        [["loss", "accuracy"], ["rate", "speed"], ["rate", "wait"]], height_ratios=(3.4, 1, 1), sharex=True
    )
    handles, validated = dict[str, Any](), False
    for curve in curves:
        stored, seed, colour = curve.found.stored, curve.seed, curve.colour
        rows = training_curves.history(stored, seed)
        validations = training_curves.validations_of(stored, seed)
        validated = validated or bool(validations)
        steps = [row.step for row in rows]
        faint: dict[str, Any] = {"color": colour, "lw": 1.3, "alpha": 0.55}
        strong: dict[str, Any] = {"color": colour, "lw": 1.8, "marker": "o", "ms": 3.5}
        panels["loss"].plot(steps, [row.loss for row in rows], **faint)
        panels["accuracy"].plot(steps, [row.accuracy for row in rows], **faint)
        panels["rate"].plot(steps, [row.learning_rate for row in rows], color=colour, drawstyle="steps-pre")
        panels["speed"].plot(steps, [row.images_per_second for row in rows], color=colour, lw=1.3)
        panels["wait"].plot(steps, [row.input_wait for row in rows], color=colour, lw=1.3)
        losses = [float("nan") if one.loss is None else one.loss for one in validations]
        panels["loss"].plot([one.step for one in validations], losses, **strong)
        panels["accuracy"].plot([one.step for one in validations], [one.accuracy for one in validations], **strong)
        handles[curve.label] = Line2D([], [], color=colour)
    _label(panels)
    if all(each.stored.recipe.training.schedule == "milestones" for each in found):  # divided by 10, again and again
        panels["rate"].set_yscale("log")
        style.write_powers(panels["rate"].yaxis)
    handles[TRAINING] = Line2D([], [], color=style.INK, lw=1.3, alpha=0.55)
    if validated:
        handles[VALIDATION] = Line2D([], [], color=style.INK, lw=1.8, marker="o", ms=3.5)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3,
        title=_told(found), title_fontsize="small",
    )  # fmt: skip
    return figure


def _label(panels: dict[str, Axes]) -> None:
    for name, title in TITLES.items():
        panels[name].set_title(title)
        panels[name].set_xlim(left=0)
        panels[name].tick_params(labelbottom=name in ("rate", "wait"))
    panels["speed"].set_ylim(bottom=0)
    panels["wait"].set_ylim(0, 1)
    for name in ("accuracy", "wait"):
        style.write_in_percent(panels[name].yaxis)
    for name in ("rate", "wait"):
        panels[name].set_xlabel("step")


def _told(found: Sequence[Found]) -> str:
    """On how many images each was validated, and how far it is, in words."""
    lines = []
    for each in found:
        facts = training_curves.facts(each)
        images = facts["validation_images"]
        on = f"validated on {images:,} images" if images else "not validated"
        steps = f"{sum(one['step'] for one in facts['trainings']):,} of {_wanted(each):,} steps saved"
        lines.append(f"{training_curves.name(each, found)}: {steps}, {on}")
    return "\n".join(lines)


def _wanted(found: Found) -> int:
    training = found.stored.recipe.training
    return training.steps * len(found.stored.trainings)
