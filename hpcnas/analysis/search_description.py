"""A search as the methods section of a paper tells it: sentences that are true of this run, as far as it has come.

They say how genotypes were chosen, what a fitness is the mean of, what has ended trainings early, how the result was
chosen, and every setting that is not the paper's (`--preset paper`), but for where and how the program ran.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hpcnas.analysis.citations import AGING, NSGA2, PAPER, THOMPSON, CitedWork, Sentence, joined, program
from hpcnas.architecture.space import Space
from hpcnas.config import data_spec
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution import objectives
from hpcnas.evolution.budget import confirmations_left, evaluations_left
from hpcnas.evolution.guided import AMONG
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.pareto import Point, fronts
from hpcnas.evolution.registry import sizing
from hpcnas.job.log import many
from hpcnas.retrain.origin import idle
from hpcnas.search.run_file import StoredRun

_TOLD = ("search.seed", "search.plugins", "search.initial", "search.tournament_draw", "data.source",
         "data.split_seed")  # fmt: skip  # in sentences of their own, or without any bearing on the search


def sentences(run: StoredRun) -> list[Sentence]:
    """The paragraph."""
    return [
        Sentence(
            "The architecture search was made with hpcnas, a program for evolutionary search over hierarchical "
            "representations",
            (PAPER, program(session.software.get("hpcnas") for session in run.sessions)),
        ),
        *_space(run.config),
        *_strategy(run),
        *_amounts(run),
        *_fitness(run),
        *_saved(run),
        *_confirmed(run),
        *_result(run),
        Sentence(_different(run)),
        *_environment(run),
    ]


def _space(config: SearchConfig) -> Iterator[Sentence]:
    space, search = config.space, config.search
    yield Sentence(f"Genotypes were of {_sizes(space)}, with the primitives {joined(_primitives(space))}")
    limits = [
        f"fewer than {most:,} {what}"
        for most, what in ((search.max_parameters, "parameters"), (search.max_flops, "FLOPs an image"))
        if most is not None
    ]
    if limits:
        yield Sentence(f"Only those whose network has {joined(limits)} were allowed")


def _sizes(space: Space) -> str:
    *motifs, cell = space.levels
    if not motifs:
        return f"a flat space: one graph of {cell.nodes} nodes"
    levels = [
        f"{many(level.motifs, 'motif')} of {level.nodes} nodes at level {number}"
        for number, level in enumerate(motifs, start=2)
    ]
    return f"a hierarchical space: {', '.join(levels)} and a cell of {cell.nodes} nodes"


def _primitives(space: Space) -> list[str]:
    return [*space.chosen, *space.added]


def _strategy(run: StoredRun) -> Iterator[Sentence]:
    """How genotypes were chosen."""
    search, population = run.config.search, run.population
    births = population.column("birth")
    given = int(np.count_nonzero(births == Birth.GIVEN))
    first = f"an initial population of {search.initial_population:,} genotypes, each diversified by "
    first += f"{search.initial_mutations:,} random mutations"
    share = f"{100 * search.tournament_fraction:g} % of the evaluated individuals"
    cited: tuple[CitedWork, ...] = ()
    match search.strategy:
        case "random":
            text = f"All genotypes were drawn at random, by {search.initial_mutations:,} mutations each"
        case "tournament":
            text = f"After {first}, the fittest of {share}, drawn at random, was mutated for each birth"
        case "aging":
            text = (
                f"After {first}, the fittest of {search.aging_sample} individuals, drawn from the "
                f"{search.aging_population} that were evaluated last, was mutated for each birth (aging evolution)"
            )
            cited = (AGING,)
        case "nsga2":
            cost = objectives.words(search.objective)
            text = (
                f"After {first}, parents were chosen by binary tournaments among {search.survivors} survivors of the "
                f"selection of NSGA-II by fitness and {cost}, which joined one by one, and mutated"
            )
            cited = (NSGA2,)
        case "guided":
            text = (
                f"After {first}, for each birth many mutants of the fittest of {share} were drawn, of which the one "
                "was trained that is best by one draw from the posterior of a Bayesian linear model of this search's "
                "own evaluations; a mutant was taken as it came while the model knew too little or did not predict, "
                "and births after the initial population that began before anything was evaluated were the largest of "
                f"{AMONG} random genotypes"
            )
            cited = (THOMPSON,)
        case _:
            text = f"Genotypes were chosen by the strategy {search.strategy}, which a plugin brings"
    yield Sentence(text, cited)
    if given:
        yield Sentence(f"{many(given, 'genotype')} {_was(given)} given, in place of drawn ones")
    if search.plugins:
        yield Sentence(f"Plugins: {search.plugins}")


def _amounts(run: StoredRun) -> Iterator[Sentence]:
    """How much was done, by how many workers."""
    search, population = run.config.search, run.population
    sessions = [session for session in run.sessions if "merged" not in session.software]  # which trained nothing
    workers = sorted({max(1, session.ranks - 1) for session in sessions})
    founders = int(np.count_nonzero(population.column("birth") == Birth.FOUNDER))
    if not workers and not founders:
        yield Sentence(f"Of a budget of {search.budget:,} evaluations none was made yet")
        return
    by = ""
    if workers:
        jobs = "one job" if len(sessions) == 1 else f"{len(sessions)} jobs"
        crew = f"{workers[0]:,} to {workers[-1]:,} workers" if len(workers) > 1 else many(workers[0], "worker")
        by = f"{', asynchronously,' if workers[-1] > 1 else ''} by {crew} in {jobs}"
    text = f"{many(population.searched, 'individual')} {_was(population.searched)} evaluated"
    if founders:
        others = ", all others" if by else ""
        text += f", {founders:,} of them in other searches that were merged into this one{others}"
    left = evaluations_left(search, population)
    stopped = f", and {population.stopped:,} were stopped early" if population.stopped else ""
    failed = f"; {len(population.failures):,} failed" if population.failures else ""
    more = f"; the search was not complete: its budget is {search.budget:,}" if left else ""
    yield Sentence(f"{text}{by}{stopped}{failed}{more}")
    yield Sentence(f"That took {population.trainings:,.10g} trainings in all")
    seeds = f"The seed of the search was {search.seed}"
    if run.config.evaluation.evaluator == "training":
        given = ", as far as the data do not tell their parts" if run.sessions[-1].facts.split else ""
        seeds += f", that of the split of the data {run.config.data.split_seed}{given}"
    yield Sentence(seeds)


def _fitness(run: StoredRun) -> Iterator[Sentence]:
    """What a fitness is."""
    config = run.config
    training, network, evaluation = config.training, config.network, config.evaluation
    if evaluation.evaluator == "synthetic":
        yield Sentence(
            "Nothing was trained: a fitness is that of a synthetic landscape, with normal noise of "
            f"{100 * evaluation.synthetic_noise:g} % a training, and the mean of "
            f"{_up_to(config)}{many(training.replicates, 'training')}"
        )
        return
    if evaluation.evaluator != "training":
        yield Sentence(f"Fitness was measured by the evaluator {evaluation.evaluator}, which a plugin brings")
        return
    replicates = training.replicates
    what = f"the {config.measure.words} of one training from scratch"
    if replicates > 1:
        what = f"the mean {config.measure.words} of {_up_to(config)}{replicates} trainings from scratch"
    data = ""
    if run.sessions:
        facts = run.sessions[-1].facts
        title = data_spec.title(config.data.source, facts.classes, facts.fingerprint)
        data = (
            f"; of the images of {title}, {facts.training_images:,} were trained on and "
            f"{facts.validation_images:,} others validated on"
        )
    yield Sentence(f"A fitness is {what} of the small network{data}")
    yield Sentence(
        f"That network has {network.channels} channels at first and {network.groups} groups of "
        f"{many(network.cells_per_group, 'cell')}; a training is {training.steps:,} steps of SGD on batches of "
        f"{training.batch_size} images"
    )


def _up_to(config: SearchConfig) -> str:
    return "up to " if config.search.racing and config.training.replicates > 1 else ""


def _saved(run: StoredRun) -> Iterator[Sentence]:
    """What was not trained, and why."""
    search, training, population = run.config.search, run.config.training, run.population
    if search.duplicates == "resample":
        yield Sentence("A genotype whose network was known was drawn again")
    elif search.duplicates == "average":
        yield Sentence("A genotype whose network was known was trained once, and that averaged into the fitness of "
                       "that network")  # fmt: skip
    if search.racing:
        yield Sentence(
            "An individual whose first trainings were worse than the best fitness with a confidence of "
            f"{100 * search.racing_confidence:g} % was given no further ones"
        )
    if not training.rungs:
        return
    where = f"{joined([f'{100 * share:g} %' for share in training.rungs])} of its steps"
    if not search.early_stopping:
        yield Sentence(f"Each training was also validated after {where}, which ended none")
        return
    yield Sentence(
        f"A training was validated after {where} and ended there if its final {run.config.measure.short}, predicted "
        "from the complete learning curves of this search, would have been worse than the best fitness with a "
        "confidence of "
        f"{100 * search.early_stopping_confidence:g} %, which saved {population.saved_trainings:,.4g} trainings"
    )


def _confirmed(run: StoredRun) -> Iterator[Sentence]:
    search, population = run.config.search, run.population
    if not population.confirmations:
        if search.confirm:
            yield Sentence(f"The best {search.confirm} networks have not been trained again yet, as they are to be")
        return
    how = "until one of them was the best with 95 % confidence or the trainings meant for that were spent"
    if confirmations_left(search, population):
        how = "which is not complete"
    yield Sentence(
        f"At the end the best {len(population.confirmed)} networks were trained again with new seeds, "
        f"{population.confirmations:,} times in all, {how}"
    )


def _result(run: StoredRun) -> Iterator[Sentence]:
    """The best individual, what its fitness is the mean of, and what chose it."""
    population, best = run.population, run.population.best
    if best is None:
        return
    measure, fitness = run.config.measure, population.column("fitness")
    search = run.config.search
    if search.strategy == "nsga2" and objectives.is_known(search.objective):  # else a plugin's that is not loaded
        cost = objectives.cost(search.objective, sizing(run.config, run.sessions[0].facts))
        points = [Point(id, float(fitness[id]), cost(population, id)) for id in population.evaluated.tolist()]
        yield Sentence(f"Its result is a front of {many(len(fronts(points)[0]), 'individual')}")
    one = population.individual(best)
    confirmed = one.birth is Birth.CONFIRMATION and one.parent is not None
    accuracies = population.averaged_accuracies(best)
    told, unit = measure.number(float(fitness[best])), " %" if measure.percent else ""
    of = "one training"
    if len(accuracies) > 1:
        told += f" ± {measure.number(statistics.stdev(accuracies))}"
        of = f"mean ± sample standard deviation of {len(accuracies)} trainings"
    size = f"{int(population.column('parameters')[best]):,} parameters"
    if confirmed:
        assert one.parent is not None
        before = measure.told(float(fitness[one.parent]))
        yield Sentence(
            f"The result, individual {one.parent} with {size}, has a fitness of {told}{unit} in the new trainings "
            f"alone ({of}); {before} had been measured before"
        )
        return
    chosen = "as the fittest"
    if best != population.measured_best:
        chosen = "as the one of which the strategy expects most, by what was measured of it and by its model"
    elif search.strategy == "nsga2":
        chosen = "as the fittest of the front"
    yield Sentence(
        f"The result, individual {best} with {size}, has a fitness of {told}{unit} ({of}); it was chosen by the same "
        f"measurements, {chosen}, and may owe some of that fitness to luck"
    )


def _different(run: StoredRun) -> str:
    """The settings that are not the paper's, each with the paper's."""
    usual, found = (search_config.SCHEME.settings(one) for one in (_paper(), run.config))
    aside = {*_TOLD, *idle(run.config)}
    told = [
        f"{key} {shown(value)} ({shown(usual[section][key])})"
        for section, values in found.items()
        for key, value in values.items()
        if section != "run" and f"{section}.{key}" not in aside and value != usual[section][key]
    ]
    if run.sessions:
        facts = run.sessions[-1].facts
        title = data_spec.title(run.config.data.source, facts.classes, facts.fingerprint)
        if title != data_spec.CIFAR10:
            told.append(f"data {title} ({data_spec.CIFAR10})")
    if not told:
        return "All settings are the paper's"
    return f"Settings that are not the paper's, with its own in parentheses: {', '.join(told)}"


def _paper() -> SearchConfig:
    return search_config.build(search_config.preset("paper"))


def shown(value: object) -> str:
    """A setting's value for a person."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(shown, value)) or "none"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return str(value)


def _environment(run: StoredRun) -> Iterator[Sentence]:
    """Versions and devices, as the run has kept them."""
    if text := software(session.software for session in run.sessions):
        yield Sentence(f"It ran with {text}")
    numbers = list(dict.fromkeys(worker.numbers for worker in run.workers if worker.numbers))
    if numbers:
        yield Sentence(f"Feature maps were of {joined(numbers)} numbers")


def software(found: Iterable[Mapping[str, str]]) -> str:
    """What the starts of a run computed with, such as `Python 3.13.1; PyTorch 2.12.0 and 2.13.0`."""
    kept: dict[str, dict[str, None]] = {}
    for one in found:
        for name in _SOFTWARE:
            if one.get(name, "none") != "none":
                kept.setdefault(name, {})[one[name]] = None
    return "; ".join(f"{_SOFTWARE[name]} {joined(list(kept[name]))}" for name in _SOFTWARE if name in kept)


_SOFTWARE = {"python": "Python", "numpy": "NumPy", "torch": "PyTorch", "cuda": "CUDA", "mpi": "MPI", "gpu": "GPU"}


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
