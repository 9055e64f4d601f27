"""One page about a retraining, also one that is under way, as one HTML file that needs nothing else: the test
results, every training and its curves, classes and the worst mistakes, the cell drawn and where it comes from,
departures from the paper, sessions, images that could not be read, and the whole recipe.

What the page is made of, and that every text is escaped, is `html_page`'s business; a search's page is `report`'s. The
pictures are those of `figures`, so that importing this file needs matplotlib. Nothing is written here.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from hpcnas.analysis import table1, tested_report, training_curves
from hpcnas.analysis.figures.training import training_curves_picture
from hpcnas.analysis.html_page import (
    Html,
    cell,
    configuration,
    framed,
    hidden,
    joined,
    picture,
    short,
    table,
    tag,
    tiles,
)
from hpcnas.analysis.retrainings import Found
from hpcnas.config import measures
from hpcnas.job.log import duration
from hpcnas.retrain.record import Origin, State, Trained

MOST_NAMED = 1000  # images that could not be read


def page(found: Found) -> str:
    """The text of the whole file."""
    name = found.folder.resolve().name
    return framed(name, f"retraining {found.stored.run}", [section(found) for section in SECTIONS])


def heading(found: Found) -> Html:
    """What is trained, on what, and how that stands."""
    facts = training_curves.facts(found)
    settings = facts["settings"]
    what = [
        facts["state"],
        f"{settings['channels']} channels, cells {' '.join(map(str, settings['cells']))}",
        settings["data"],
        f"{settings['runs']} × {settings['steps']:,} steps of {settings['batch_size']} images",
    ]
    return joined([tag("h1", found.folder.resolve().name), tag("p", " · ".join(what), class_="muted")])


def outcome(found: Found) -> Html:
    """What was reached, in numbers."""
    stored, training = found.stored, found.stored.recipe.training
    made, wanted = sum(one.step for one in stored.trainings), training.steps * len(stored.trainings)
    ended = [f"{len(found.complete)} of {len(stored.trainings)} trainings complete"]
    ended += [f"{len(stored.diverged)} diverged"] if stored.diverged else []
    seconds = sum(one.training_seconds for one in stored.trainings)
    on_gpus = bool(stored.sessions) and all(session.device.startswith("cuda") for session in stored.sessions)
    reached = [("–", "test accuracy: no training is complete yet")]
    if accuracies := stored.test_accuracies:
        spread = ", one training"
        if len(accuracies) > 1:
            spread = f" ± {100 * statistics.stdev(accuracies):.2f}, mean of {len(accuracies)} trainings"
        mean = 100 * statistics.fmean(accuracies)
        reached = [(f"{mean:.2f} %", f"test accuracy{spread}"), (f"{100 - mean:.2f} %", "test error")]
    elif validations := list(filter(None, (stored.last_validation(one.seed) for one in stored.trainings))):
        last = validations[-1]
        after = f"validation accuracy of seed {last.seed} after step {last.step:,}"
        reached.append((f"{100 * last.accuracy:.2f} %", after))
    return tiles(
        [
            *reached,
            (f"{made:,}", f"steps saved of {wanted:,}, {', '.join(ended)}"),
            (short(stored.parameters), f"parameters; {short(stored.flops)} FLOPs an image"),
            (duration(seconds), "training time" + (" on GPUs" if on_gpus else "")),
        ]
    )


def genotype(found: Found) -> Html:
    """The cell, and where it comes from."""
    stored = found.stored
    name = found.folder.resolve().name
    return joined(
        [cell("The cell", name, stored.genotype)]
        + [tag("p", f"{one}.", class_="muted") for one in (origin(stored.origin), departures(found)) if one]
    )


def origin(found: Origin) -> str:
    """Where a genotype comes from, in words."""
    if found.run is None:
        return f"Its genotype: {found.source}, {found.space} space"
    parts = [f"individual {found.individual} of a search, given as {found.source}", f"{found.space} space"]
    if found.fitness is not None:
        measure = measures.named(found.measure)
        judged = f" ({measure.remark})" if measure.remark else ""
        parts.append(f"fitness {measure.told(found.fitness)}{judged}")
    if found.evaluation is not None and found.evaluated is not None:
        best = {True: ", the best of them", False: ", not the best of them", None: ""}[found.fittest]
        parts.append(f"number {found.evaluation + 1:,} of {found.evaluated:,} that were evaluated by then{best}")
    return f"Its genotype: {', '.join(parts)}; found by {table1.search(found)}"


def departures(found: Found) -> str | None:
    """Where the recipe differs from the paper's; nothing where no session knows the data."""
    if not found.stored.sessions:
        return None
    row = table1.experiment(found.stored)
    channels = f" with {row.channels} channels (c0)"
    return f"Trained on {row.data}{channels}; departures from the paper's recipe: {row.departures or 'none'}"


def results(found: Found) -> Html | None:
    """The test of each complete training, their mean, and what diverged; nothing where no training is complete."""
    if not found.complete:
        return None
    header = ("seed", "accuracy %", "error %", "top 5 %", "balanced %", "macro F1", "AUROC", "log loss", "images",
              "tested")  # fmt: skip
    rows = [
        (str(one.seed), _percent(one.test_accuracy), _percent(_rest(one.test_accuracy)), _percent(one.test_top5),
         _percent(one.test_balanced_accuracy), _number(one.test_macro_f1, ".4f"), _number(one.test_auroc, ".4f"),
         _number(one.test_loss, ".4f"), _tested(one), "" if one.finished is None else _time(one.finished))
        for one in found.complete
    ]  # fmt: skip
    if len(rows) > 1:
        accuracies = found.stored.test_accuracies
        top5 = [one.test_top5 for one in found.complete if one.test_top5 is not None]
        errors = [1 - one for one in accuracies]
        balanced = [one.test_balanced_accuracy for one in found.complete if one.test_balanced_accuracy is not None]
        means = (_spread(accuracies), _spread(errors), _spread(top5), _spread(balanced))
        rows.append(("mean ± std", *means, "", "", "", "", ""))
    diverged = ", ".join(map(str, found.stored.diverged))
    parts = [table("Test results", header, rows, header[:-1])]
    if diverged:
        parts.append(tag("p", f"Diverged, and not in the mean: seed {diverged}.", class_="bad"))
    return joined(parts)


def _tested(training: Trained) -> str:
    """How many images were tested, and of how many."""
    images, broken = training.test_images, training.test_broken
    return _number(images, ",") + (f" of {images + broken:,}" if images is not None and broken else "")


def trainings(found: Found) -> Html | None:
    """A row a training: where it stands, and its latest values."""
    facts = training_curves.facts(found)
    header: tuple[str, ...] = (
        "seed", "state", "step", "loss", "accuracy %", "validation %", "learning rate", "images/s", "waiting %", "time",
    )  # fmt: skip
    on_gpu = any(one.peak_memory is not None for one in found.stored.trainings)
    header += ("GPU memory",) if on_gpu else ()
    rows = [
        (*_training(one, latest, facts["settings"]["steps"]), *([_memory(one)] if on_gpu else []))
        for one, latest in zip(found.stored.trainings, facts["trainings"], strict=True)
    ]
    return table("Trainings", header, rows, {*header} - {"state"})


def _training(training: Trained, latest: dict[str, Any], steps: int) -> tuple[str, ...]:
    validation = _percent(latest["validation_accuracy"])
    if latest["validation_step"] not in (None, latest["step"]):
        validation += f" at {latest['validation_step']:,}"
    return (
        str(training.seed),
        training.state.name.lower(),
        f"{training.step:,} of {steps:,}",
        _number(latest["loss"], ".4f"),
        _percent(latest["accuracy"]),
        validation,
        _number(latest["learning_rate"], "g"),
        _number(latest["images_per_second"], ",.0f"),
        _number(_times_100(latest["input_wait"]), ".1f"),
        "" if training.state is State.WAITING else duration(training.training_seconds),
    )


def _memory(training: Trained) -> str:
    return "" if training.peak_memory is None else f"{training.peak_memory / 2**30:.2f} GiB"


def _spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation in percent; nothing of fewer than two."""
    return f"{100 * statistics.fmean(shares):.2f} ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _times_100(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _percent(share: float | None) -> str:
    return _number(_times_100(share), ".2f")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def curves(found: Found) -> Html | None:
    """Loss, accuracy, learning rate, images a second and waiting, against the step; nothing before the first row."""
    if not training_curves.seeds_with_curves(found.stored):
        return None
    title = "Loss, accuracy, learning rate, images a second and waiting against the step"
    return joined([tag("h2", "Curves"), picture(title, training_curves_picture([found]))])


def sessions(found: Found) -> Html | None:
    """Starts of the retraining."""
    rows: list[tuple[str | int, ...]] = [
        (_time(one.started), one.ranks, one.host, one.device, one.numbers,
         *(one.software.get(name, "") for name in ("hpcnas", "torch", "mpi")))
        for one in found.stored.sessions
    ]  # fmt: skip
    header = ("started", "ranks", "rank 0 on", "its device", "numbers", "hpcnas", "torch", "MPI")
    return table("Sessions", header, rows)


def _time(seconds: float) -> str:
    """A moment in seconds since 1970, UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def broken(found: Found) -> Html | None:
    """Images that could not be read; nothing where there are none."""
    names = found.stored.broken
    if not names:
        return None
    more = f"\n… and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    listing = tag("div", tag("pre", "\n".join(names[:MOST_NAMED]) + more), class_="box")
    title = f"{len(names):,} image{'s' if len(names) > 1 else ''} of the data could not be read"
    return joined([tag("h2", "Broken images"), hidden(title, listing)])


def recipe(found: Found) -> Html:
    """All settings; the data and the software of the last session."""
    return configuration(found.stored.recipe.toml(), found.stored.sessions)


SECTIONS: tuple[Callable[[Found], Html | None], ...] = (
    heading,
    outcome,
    results,
    trainings,
    curves,
    tested_report.classes,
    tested_report.worst_mistakes,
    genotype,
    sessions,
    broken,
    recipe,
)
"""What stands on the page, in its order: each a function of the retraining, None where there is nothing to say. A new
section is a function in this list."""
