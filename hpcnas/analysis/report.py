"""One page about a run as one HTML file that needs nothing else: the outcome, the best cell drawn, the course of the
search, the lineage of the best, a table of all individuals, failures, sessions and the whole configuration.

What the page is made of, and that every text from the run is escaped, is `html_page`'s business; a retraining's page is
`retraining_report`'s. The pictures are those of `figures`, so that importing this file needs matplotlib. Nothing is
written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnas.analysis import lineage, rungs, runs, summary
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.figures import learning, search
from hpcnas.analysis.figures.lineage import lineage_picture
from hpcnas.analysis.guidance import Guidance, Unguided
from hpcnas.analysis.html_page import Html, cell, configuration, framed, joined, picture, short, table, tag, tiles
from hpcnas.analysis.rungs import LearningCurves, NoCurves
from hpcnas.config import measures
from hpcnas.config.measures import FitnessMeasure
from hpcnas.evolution import learning_curves
from hpcnas.evolution.individuals import Birth, State
from hpcnas.evolution.population import Population
from hpcnas.job.log import duration
from hpcnas.search.progress import stopped_early
from hpcnas.search.run_file import StoredRun


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────
def page(run: Curves) -> str:
    """The text of the whole file, about a run that may be under way."""
    stored, name = run.stored, run.folder.resolve().name
    facts = summary.facts(run.folder, stored, best=1)
    parts: list[Html | None] = [heading(name, facts), remarks(facts), outcome(facts)]
    best = stored.population.best
    if best is not None:
        genotype = stored.population.individual(best).genotype
        parts += [cell("The best cell", f"{name}-{best}", genotype), course(run), predictions(run), learned(run),
                  ancestors(stored, best)]  # fmt: skip
    parts += [individuals(stored), failures(facts), sessions(facts)]
    parts.append(configuration(stored.config.toml(), stored.sessions))
    return framed(name, f"run {stored.run}", parts)


def heading(name: str, facts: dict[str, Any]) -> Html:
    """What was searched, where, and how that stands."""
    settings = facts["settings"]
    cost = f"{settings['replicates']} × {settings['steps']:,} steps of {settings['batch_size']} images"
    trained = [settings["data"], cost]
    if settings["evaluator"] == "synthetic":
        trained = ["synthetic fitness: nothing was trained"]
    judged = measures.named(settings["fitness"]).remark
    trained += [f"fitness: {judged}"] if judged else []
    limit = [f"under {settings['max_parameters']:,} parameters"] if settings["max_parameters"] else []
    what = [f"{settings['strategy']} search", f"{settings['space']} space", *limit, *trained]
    return joined(
        [tag("h1", name), tag("p", " · ".join([facts["state"], *what, f"seed {settings['seed']}"]), class_="muted")]
    )


def remarks(facts: dict[str, Any]) -> Html | None:
    """What the strategy expects of the best, what new trainings have said of it, and how well the strategy predicts;
    nothing where there is none of these."""
    said = [("Expected", line) for line in facts["expected"]] + [("Confirmed", line) for line in facts["confirmed"]]
    said += [("Predictions", facts["predictions"])] if facts["predictions"] else []
    return joined(tag("p", f"{name}: {line}.", class_="muted") for name, line in said) if said else None


def outcome(facts: dict[str, Any]) -> Html:
    """The outcome in numbers."""
    best = facts["best"][0] if facts["best"] else None
    measure = measures.named(facts["settings"]["fitness"])
    spread = "" if best is None or best["std"] is None else f" ± {measure.number(best['std'])}"
    said = f": {measure.remark}" if measure.remark else ""
    hours, whose = facts["worker_hours"], "GPU" if facts["on_gpus"] else "worker"
    busy = "" if facts["busy_share"] is None else f", {100 * facts['busy_share']:.0f} % busy"
    busy += f", {100 * facts['input_wait']:.1f} % of it waiting for images" if facts["input_wait"] else ""
    limit = facts["trainings_limit"]
    trainings = [f"{facts['trainings']:,.0f} of {limit:,} trainings"] if limit else []
    early = [f"{facts['stopped']:,} stopped early"] if facts["stopped"] else []
    counted = ["evaluated", *early, f"of {facts['budget']:,}"] if early else [f"evaluated of {facts['budget']:,}"]
    lost = [f"{facts['failed']} failed"] if facts["failed"] else []
    lost += [f"{facts['in_flight']} in flight"] if facts["in_flight"] else []
    shown = [
        ("–" if best is None else measure.told(best["fitness"]), f"best fitness{spread}{said}"),
        ("–" if best is None else str(best["id"]), "best individual"),
        ("–" if best is None else short(best["parameters"]), "its parameters"),
        (f"{facts['evaluated']:,}", ", ".join([*counted, *trainings, *lost])),
        (f"{hours:,.1f} h" if hours >= 1 else duration(3600 * hours), f"{whose} time{busy}"),
    ]
    return tiles(shown)


def course(run: Curves) -> Html:
    """The search, step by step."""
    return joined(
        [
            tag("h2", "The search"),
            picture("Fitness, best fitness and parameters against the evolution step", search.search_picture([run])),
            tag(
                "div",
                picture("Fitness against parameters", search.pareto_picture([run])),
                picture("Busy workers and failed attempts over time", search.health_picture([run])),
                class_="side",
            ),
        ]
    )


def predictions(run: Curves) -> Html | None:
    """What the model of guided evolution predicted, and what was measured; nothing where no model has chosen."""
    try:
        found = Guidance.of(run)
    except Unguided:
        return None
    drawing = picture("Predicted and measured fitness, and their rank correlation", search.guidance_picture([found]))
    return joined([tag("h2", "What the model predicted"), drawing])


def learned(run: Curves) -> Html | None:
    """Learning curves, and what the rungs say; nothing where there are none."""
    try:
        found = LearningCurves.of(run)
    except NoCurves:
        return None
    drawing = picture("Learning curves and rungs", learning.learning_curves_picture([found]))
    population, measure = run.stored.population, run.measure
    early = [tag("p", f"Stopped early: {stopped_early(population)}.", class_="muted")] if population.stopped else []
    shown = [found.rungs[place] for place in rungs.few(len(found.rungs))]
    rows = [
        (rung.name, rung.stopped, rung.curves, "–" if rung.correlation is None else f"{rung.correlation:.2f}",
         "–" if rung.line is None else measure.number(rung.line.deviation))
        for rung in shown
    ]  # fmt: skip
    header = ("rung", "stopped there", "complete curves", f"rank correlation with the final {measure.short}",
              "± from the line, %" if measure.percent else "± from the line")  # fmt: skip
    return joined([table("Learning curves", header, rows), *early, drawing])


def ancestors(stored: StoredRun, best: int) -> Html | None:
    """The lineage of the best; nothing where it has no parent."""
    family = lineage.ancestry(stored.population, best)
    if len(family) < 2:
        return None
    drawn = lineage_picture(stored.population, family, stored.config.measure)
    drawing = picture("The lineage of the best individual", drawn)
    return joined([tag("h2", "Its lineage"), tag("p", lineage.summary(family), class_="muted"), drawing])


def failures(facts: dict[str, Any]) -> Html | None:
    """Failed attempts by kind."""
    rows = [(one["kind"], one["attempts"], one["individuals"], one["last"]) for one in facts["failures"]]
    return table("Failures", ("kind", "attempts", "given up", "the last one"), rows)


def sessions(facts: dict[str, Any]) -> Html | None:
    """Starts of the controller."""
    early = any(one["stopped"] for one in facts["sessions"])
    rows = [
        (one["started"].replace("T", " ").replace("+00:00", " UTC"), duration(one["seconds"]), one["workers"],
         one["evaluated"], *([one["stopped"]] if early else []),
         "" if one["busy_share"] is None else f"{100 * one['busy_share']:.0f} %", one["host"], one["hpcnas"] or "")
        for one in facts["sessions"]
    ]  # fmt: skip
    header = ("started", "lasted", "workers", "evaluated", *(["stopped early"] if early else []), "busy",
              "controller on", "hpcnas")  # fmt: skip
    return table("Sessions", header, rows)


# ── the table of individuals ────────────────────────────────────────────────────────────────────────────────────────
HEADINGS = {  # key: heading, and whether it is a column of numbers
    "individual": ("individual", True),
    "step": ("step", True),
    "birth": ("birth", False),
    "parent": ("parent", True),
    "fitness": ("fitness %", True),
    "std": ("±", True),
    "gain": ("gain", True),
    "parameters": ("parameters", True),
    "seconds": ("time", True),
    "rank": ("rank", True),
    "host": ("host", False),
    "device": ("device", False),
    "state": ("state", False),
}
LARGEST_FIRST = ("std", "gain", "parameters", "seconds")  # at the first click


def individuals(stored: StoredRun) -> Html:
    """All of them, the fittest first."""
    population = stored.population
    title = tag("h2", "Individuals")
    if not len(population):
        return joined([title, tag("p", "None has been born yet.", class_="muted")])
    columns = {
        name: population.column(name).tolist()
        for name in ("birth", "parent", "fitness", "parameters", "started", "finished", "rank", "host", "device")
    }  # fmt: skip
    spread = runs.spread(population).tolist()
    steps = {int(id): step for step, id in enumerate(population.evaluated, start=1)}
    fitness = population.column("fitness")
    known = fitness[population.evaluated]
    low, high = (float(np.quantile(known, 0.02)), float(known.max())) if len(known) else (0.0, 0.0)
    shown = rungs.few(len(population.rungs))
    reached, _ = learning_curves.mean_curves(population, np.arange(len(population)))
    rows = []
    for id in sorted(range(len(population)), key=lambda id: (-fitness[id] if id in steps else np.inf, id)):
        row = {key: values[id] for key, values in columns.items()}
        parent = row["parent"] if row["parent"] >= 0 else None
        rows.append(_row(id, row, steps.get(id), parent, None if spread[id] != spread[id] else spread[id],
                         columns["fitness"][parent] if parent is not None else None, low, high,
                         reached[id, shown].tolist(), _state(population, id), stored.config.measure))  # fmt: skip
    headings = _headings([population.rungs[place] for place in shown], stored.config.measure)
    links = (
        tag(
            "th",
            tag("a", text, href=f"#sort={'-' if key in LARGEST_FIRST else ''}{key}"),
            class_="number" if number else None,
            data_key=key,
            aria_sort="descending" if key == "fitness" else None,
        )
        for key, (text, number) in headings.items()
    )
    head, body = tag("thead", tag("tr", *links)), tag("tbody", joined(rows, "\n"))
    return joined([title, tag("div", tag("table", head, body, id="individuals"), class_="box scroll")])


def _headings(shares: Sequence[float], measure: FitnessMeasure) -> dict[str, tuple[str, bool]]:
    """HEADINGS, with one for the fitness at each of some rungs after those of the fitness."""
    found = {}
    for key, heading in HEADINGS.items():
        found[key] = heading
        if key == "fitness" and not measure.percent:
            found[key] = (measure.name, True)
        elif key == "fitness" and measure.remark:
            found[key] = (f"{measure.name} %", True)
        if key == "gain":
            found |= {f"rung_{chr(97 + number)}": (f"at {rungs.percent(share)}", True)
                      for number, share in enumerate(shares)}  # fmt: skip
    return found


def _state(population: Population, id: int) -> tuple[str, bool]:
    """Where an individual stands, in words, and whether that is bad."""
    if (share := rungs.stopped_share(population, id)) is not None:
        return f"stopped early at {rungs.percent(share)}", False
    if id in population.failures:
        return f"failed: {population.failures[id].kind.name.lower()}", True
    return "evaluated" if population.column("state")[id] == State.EVALUATED else "in flight", False


def _row(
    id: int, row: dict[str, Any], step: int | None, parent: int | None, std: float | None, before: float | None,
    low: float, high: float, reached: Sequence[float], state: tuple[str, bool], measure: FitnessMeasure,
) -> Html:  # fmt: skip
    """One individual. Numbers that are written for people carry their value for sorting."""
    done, ended = step is not None, row["finished"] == row["finished"]
    seconds = row["finished"] - row["started"]
    gain = row["fitness"] - before if done and before is not None else None
    text, bad = state
    share = (row["fitness"] - low) / (high - low) if done and high > low else 0.0
    parts = [
        _number(id, str(id)),
        _number(step, str(step)),
        tag("td", Birth(row["birth"]).name.lower()),
        tag("td", None if parent is None else tag("a", str(parent), href=f"#i{parent}"), class_="number"),
        tag("td", measure.number(row["fitness"]), class_="number measure", data_value=f"{row['fitness']:.6g}",
            style=f"--share:{100 * max(0.0, share):.0f}%") if done else _number(None, ""),
        _number(std if done else None, measure.number(std or 0.0)),
        _number(gain, measure.gain(gain or 0.0)),
        *(_number(None if one != one else one, measure.number(one)) for one in reached),
        _number(row["parameters"] if row["parameters"] >= 0 else None, f"{row['parameters']:,}"),
        _number(seconds if ended else None, duration(seconds) if ended else ""),
        _number(row["rank"] if ended else None, str(row["rank"])),
        tag("td", row["host"].decode(errors="replace")),
        tag("td", row["device"].decode(errors="replace")),
        tag("td", text, class_="bad" if bad else None),
    ]  # fmt: skip
    return tag("tr", *parts, id=f"i{id}")


def _number(value: float | None, text: str) -> Html:
    if value is None:
        return tag("td")
    return tag("td", text, class_="number", data_value=None if text == str(value) else f"{value:.6g}")
