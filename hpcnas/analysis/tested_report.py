"""What the report of a retraining says of its test images: classes and what they are taken for, and the worst mistakes
as pictures. Nothing of a retraining that has not kept what it says of them.

Two sections of `retraining_report`; images that cannot be had any more cost the pictures, and a line says so.
"""

from __future__ import annotations

from hpcnas.analysis import tested
from hpcnas.analysis.figures.confusion import confusion_of_trainings
from hpcnas.analysis.figures.mistakes import mistakes_of_training
from hpcnas.analysis.html_page import Html, hidden, joined, picture, table, tag
from hpcnas.analysis.mistakes import NoPictures
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.analysis.tested import KeptPredictions


def classes(found: Found) -> Html | None:
    """Which classes are taken for which in the tests of all trainings, and the accuracy of each."""
    try:
        kept = tested.of(found)
    except AnalysisError as error:
        return joined([tag("h2", "Classes"), tag("p", str(error), class_="bad")])
    if not kept:
        return None
    title = "Which classes are taken for which, and the most confused"
    drawing = picture(title, confusion_of_trainings(kept))
    return joined([tag("h2", "Classes"), drawing, hidden("the accuracy of each class", _accuracies(kept))])


def _accuracies(kept: list[KeptPredictions]) -> Html:
    """A row a class, the worst first; what is counted is over all trainings."""
    counts, names = tested.confusion_of(kept), kept[0].class_names
    images, right, accuracies = counts.images.tolist(), counts.right.tolist(), counts.accuracies.tolist()
    header = ("class", "accuracy %", "correct", "images")
    rows = [
        (names[one], f"{100 * accuracies[one]:.2f}", f"{right[one]:,}", f"{images[one]:,}")
        for one in counts.worst(counts.classes)
    ]
    return joined([table("", header, rows, header[1:])])


def worst_mistakes(found: Found) -> Html | None:
    """The images that the training of the least seed got wrong with the highest probability."""
    try:
        kept = tested.of(found)
    except AnalysisError:  # `classes` says so
        return None
    if not kept:
        return None
    title = "Test images that were taken for another class with the highest probability"
    try:
        shown = picture(title, mistakes_of_training(kept[0]))
    except NoPictures as why:
        shown = tag("p", f"{why}.", class_="muted")
    return joined([tag("h2", "Worst mistakes"), shown])
