"""Methods paragraphs of searches and retrainings, word by word; their LaTeX and BibTeX, also of hostile names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from examples import SESSION, SPACE, WORKER, evaluated, individual, population
from toolruns import CHAIN, RETRAINED_ON, curved, retrained

from hpcnas import plugins
from hpcnas.analysis import (
    citations,
    latex_text,
    results_table,
    retraining_description,
    retrainings,
    runs,
    search_description,
)
from hpcnas.analysis.citations import AGING, NSGA2, PAPER, THOMPSON, Sentence, program
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import search as search_config
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.messages import Evaluation, Result
from hpcnas.retrain.record import Origin
from hpcnas.search.run_file import StoredRun

ROOT = Path(__file__).parents[2]
Layers = Mapping[str, Mapping[str, object]]
NONE: Layers = {}


def search(settings: Layers = NONE, found: Population | None = None, starts: int = 1) -> StoredRun:
    """A search of three individuals, the first with the fitness 0.5, the others with 0.75 and 0.55."""
    base = {"search": {"space": "2x3/1x3", "budget": 3}, "training": {"replicates": 2}, "data": {"source": "digits"}}
    config = search_config.build(base, settings)
    if found is None:
        found = population(evaluated(0, 0.5, 0.5), evaluated(1, 0.7, 0.8), evaluated(2))
    software = {"hpcnas": "0.2.0", "python": "3.13.1", "torch": "2.13.0", "mpi": "none"}
    sessions = [replace(SESSION, ranks=ranks, software=software) for ranks in (3, 9)][:starts]
    return StoredRun("7" * 32, 0, config, found, sessions, [WORKER])


def told(run: StoredRun) -> list[str]:
    return [one.text for one in search_description.sentences(run)]


def test_a_search_by_the_papers_rules() -> None:
    found = search_description.sentences(search())
    assert found[0].works == (PAPER, program(["0.2.0"]))
    assert [one.text for one in found] == [
        "The architecture search was made with hpcnas, a program for evolutionary search over hierarchical "
        "representations",
        "Genotypes were of a hierarchical space: 2 motifs of 3 nodes at level 2 and a cell of 3 nodes, with the "
        "primitives 1x1, dw, sep, max, avg and id",
        "After an initial population of 200 genotypes, each diversified by 1,000 random mutations, the fittest of 5 % "
        "of the evaluated individuals, drawn at random, was mutated for each birth",
        "3 individuals were evaluated, asynchronously, by 2 workers in one job",
        "That took 6 trainings in all",
        "The seed of the search was 0, that of the split of the data 0",
        "A fitness is the mean validation accuracy of 2 trainings from scratch of the small network; of the "
        "images of digits, 40,000 were trained on and 10,000 others validated on",
        "That network has 16 channels at first and 3 groups of 1 cell; a training is 5,000 steps of SGD on batches of "
        "256 images",
        "The result, individual 1 with 1,001 parameters, has a fitness of 75.00 ± 7.07 % (mean ± sample standard "
        "deviation of 2 trainings); it was chosen by the same measurements, as the fittest, and may owe some of that "
        "fitness to luck",
        "Settings that are not the paper's, with its own in parentheses: space 2x3/1x3 (hierarchical), budget 3 "
        "(7,000), replicates 2 (4), data digits (CIFAR-10)",
        "It ran with Python 3.13.1; PyTorch 2.13.0",
        "Feature maps were of bfloat16 numbers",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"search": {"strategy": "random"}}, "All genotypes were drawn at random, by 1,000 mutations each"),
        ({"search": {"space": "1x4:sep,id", "max_parameters": 9, "max_flops": 8}},
         "Only those whose network has fewer than 9 parameters and fewer than 8 FLOPs an image were allowed"),
        ({"search": {"duplicates": "resample"}}, "A genotype whose network was known was drawn again"),
        ({"search": {"racing": True, "racing_confidence": 0.9}},
         "An individual whose first trainings were worse than the best fitness with a confidence of 90 % was given no "
         "further ones"),
        ({"training": {"rungs": (0.1, 0.5)}},
         "Each training was also validated after 10 % and 50 % of its steps, which ended none"),
        ({"search": {"confirm": 3}}, "The best 3 networks have not been trained again yet, as they are to be"),
        ({"search": {"budget": 4}},
         "3 individuals were evaluated, asynchronously, by 2 workers in one job; the search was not complete: its "
         "budget is 4"),
        ({"evaluation": {"evaluator": "synthetic"}},
         "Nothing was trained: a fitness is that of a synthetic landscape, with normal noise of 0.2 % a training, and "
         "the mean of 2 trainings"),
        ({"training": {"fitness": "log-loss"}},
         "The result, individual 1 with 1,001 parameters, has a fitness of 0.7500 ± 0.0707 (mean ± sample standard "
         "deviation of 2 trainings); it was chosen by the same measurements, as the fittest, and may owe some of that "
         "fitness to luck"),
        ({"training": {"replicates": 1}},
         "A fitness is the validation accuracy of one training from scratch of the small network; of the images "
         "of digits, 40,000 were trained on and 10,000 others validated on"),
    ],
)  # fmt: skip
def test_what_a_setting_makes_of_it(settings: Layers, said: str) -> None:
    assert said in told(search(settings))


@pytest.mark.parametrize(("name", "work"), [("aging", AGING), ("nsga2", NSGA2), ("guided", THOMPSON)])
def test_strategies_of_others_are_cited(name: str, work: citations.CitedWork) -> None:
    found = search_description.sentences(search({"search": {"strategy": name}}))
    assert found[2].works == (work,) and found[2].text.startswith("After an initial population of 200 genotypes, ")
    front = "Its result is a front of 2 individuals"
    assert (front in [one.text for one in found]) is (name == "nsga2")


def test_what_other_searches_have_evaluated_is_told_apart() -> None:
    found = Population(SPACE, replicates=2)
    for id in range(2):
        found.add(replace(individual(id), birth=Birth.FOUNDER))
        found.settle(evaluated(id))
    run = search({"search": {"budget": 2}}, found)
    joining = replace(run.sessions[0], ranks=1, software={"merged": "a, b"})
    only = "2 individuals were evaluated, 2 of them in other searches that were merged into this one"
    assert told(replace(run, sessions=[joining]))[3] == only
    assert results_table.of_searches([(Path("a"), replace(run, sessions=[joining]))])[0]["workers"] is None
    assert told(replace(run, sessions=[joining, *run.sessions]))[3] == (
        f"{only}, all others, asynchronously, by 2 workers in one job"
    )


def test_the_front_is_left_out_where_the_plugin_of_its_objective_is_not_loaded() -> None:
    with plugins.done_without(lambda names: None):
        found = told(search({"search": {"strategy": "nsga2", "objective": "depth", "plugins": "not_here"}}))
    assert any("NSGA-II by fitness and depth" in text for text in found)
    assert not any("Its result is a front" in text for text in found)


def test_several_jobs_and_what_was_stopped_early(tmp_path: Path) -> None:
    assert told(search(starts=2))[3] == "3 individuals were evaluated, asynchronously, by 2 to 8 workers in 2 jobs"
    found = told(runs.load(curved(tmp_path / "run")))
    assert found[3] == (
        "2 individuals were evaluated, asynchronously, by 2 workers in one job, and 2 were stopped early; the search "
        "was not complete: its budget is 8"
    )
    assert found[4] == "That took 5.5 trainings in all"
    assert found[8] == (
        "A training was validated after 25 % and 50 % of its steps and ended there if its final accuracy, predicted "
        "from the complete learning curves of this search, would have been worse than the best fitness with a "
        "confidence of 95 %, which saved 2.5 trainings"
    )


def test_new_trainings_alone_are_told_of_what_was_confirmed() -> None:
    found = Population(SPACE, replicates=1)
    for id, codes in enumerate((CHAIN.codes, bytes([1, 0, 1, 0, 0, 0, 1, 0, 1]))):
        found.add(replace(individual(id), genotype=Genotype(SPACE, codes)))
        found.settle(evaluated(id, 0.9 - 0.1 * id))
    for id, accuracy in ((2, 0.6), (3, 0.8), (4, 0.7), (5, 0.9)):
        parent = id % 2
        again = replace(found.individual(parent), id=id, birth=Birth.CONFIRMATION, parent=parent, repeats=parent)
        found.add(replace(again, view=id))
        found.settle(Result(id, 1, WORKER.place, 0.0, 1.0, Evaluation((accuracy,), 1000, 0.0, 1.0, 0.0)))
    settings = {"search": {"budget": 2, "confirm": 2, "confirm_trainings": 4}, "training": {"replicates": 1}}
    said = told(search(settings, found))
    assert said[8:10] == [
        "At the end the best 2 networks were trained again with new seeds, 4 times in all, until one of them was the "
        "best with 95 % confidence or the trainings meant for that were spent",
        "The result, individual 1 with 1,000 parameters, has a fitness of 85.00 ± 7.07 % in the new trainings alone "
        "(mean ± sample standard deviation of 2 trainings); 80.00 % had been measured before",
    ]


def test_a_search_in_which_nothing_has_happened() -> None:
    said = told(search(found=Population(SPACE, replicates=2), starts=0))
    assert "Of a budget of 3 evaluations none was made yet" in said
    assert not any("result" in text or "It ran" in text for text in said)


def test_a_retraining_by_the_papers_recipe(tmp_path: Path) -> None:
    found = retrainings.load(retrained(tmp_path / "large", [0.96, 0.97], diverged=1))
    assert [one.text for one in retraining_description.sentences(found)] == [
        "The large network was trained with hpcnas, by the recipe of the paper where nothing else is said",
        "Its cell is the best hierarchical one that is published",
        "The network begins with a 3×3 convolution, has 64 channels at first and groups of 2, 2 and 2 cells, and "
        "15,727,306 parameters",
        "It was trained on 50,000 images of CIFAR-10 in 10 classes",
        "A training, from scratch, has 80,000 steps of SGD on batches of 256 images, with momentum 0.9, weight decay "
        "0.0003 and a learning rate that begins at 0.1 and is divided by 10 after 50 %, 75 % and 87.5 % of the steps",
        "Its error on 10,000 test images is 3.50 ± 0.71 % (mean ± sample standard deviation of 2 trainings, with the "
        "seeds 0 and 1)",
        "Not among these: 1 training whose loss was not finite",
        "All settings are the paper's (preset cifar-large)",
        "All ranks trained one network together: 1 in one job, rank 0 on cpu",
        "Feature maps were of float32 numbers",
    ]


def test_another_recipe_of_a_cell_that_was_found(tmp_path: Path) -> None:
    origin = Origin("runs/a:7", "flat", "5" * 32, 7, "aging", 0.9, 3, 500, False, 1000, "replicates 2")
    settings = {
        "training": {"runs": 2, "schedule": "cosine", "weight_averaging": 0.999, "micro_batch": 8},
        "data": {"validation_fraction": 0.1},
    }
    facts = replace(RETRAINED_ON, training_images=45_000, validation_images=5_000)
    found = retrainings.load(retrained(tmp_path / "large", [0.96], origin, settings, facts=facts))
    said = [one.text for one in retraining_description.sentences(found)]
    assert said[1:4] == [
        "Its cell is individual 7 of a search of 500 evaluations by the strategy aging in the flat space, which was "
        "not the result of that search by then",
        "That search allowed only networks of fewer than 1,000 parameters",
        "Its other settings that are not the paper's: replicates 2",
    ]
    assert said[5].endswith("; 5,000 others were validated on while it trained")
    assert said[6].endswith("and a learning rate that begins at 0.1 and falls to 0 along a cosine")
    assert said[7:11] == [
        "Tested is a moving average of the weights, with the decay 0.999",
        "Its error on 10,000 test images is 4.00 % (one training, with the seed 0)",
        "1 training more was not complete",
        "Settings that are not the paper's (preset cifar-large), with its own in parentheses: schedule cosine "
        "(milestones), weight_averaging 0.999 (0), validation_fraction 0.1 (0)",
    ]


def test_batch_statistics_that_are_not_of_all_images_of_a_step_are_told(tmp_path: Path) -> None:
    found = retrainings.load(retrained(tmp_path / "large", [0.96]))
    found.stored.micro_batch = 64
    told = "Batch statistics were of 64 images at a time instead of all of a step, since memory had no room for more"
    assert told in [one.text for one in retraining_description.sentences(found)]


def test_a_retraining_of_which_nothing_is_complete(tmp_path: Path) -> None:
    file = Origin("a_cell.toml", "2x3/1x3")
    found = retrainings.load(retrained(tmp_path / "new", [], file))
    said = [one.text for one in retraining_description.sentences(found)]
    assert said[1] == "Its cell is the genotype a_cell.toml of the 2x3/1x3 space"
    assert "No training is complete" in said and not any("Its error" in text for text in said)


HOSTILE = "a_b%$&#{}~^\\-- \"<|>`\x1b[2J\n\udcff"


def test_latex_obeys_nothing_of_a_name() -> None:
    shown = (
        r"a\_b\%\$\&\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}-{}- {\char34}\textless{}\textbar{}"
        r"\textgreater{}\textasciigrave{}\textbackslash{}x1b[2J\textbackslash{}n\textbackslash{}udcff"
    )
    assert latex_text.escaped(HOSTILE) == shown
    assert citations.latex([Sentence(f"It is {HOSTILE}", (PAPER,)), Sentence("1 ± 2 %")]) == (
        f"It is {shown}~\\cite{{liu2018hierarchical}}.\n1 \\(\\pm\\) 2 \\%."
    )


def test_bibtex_has_each_work_once_and_all_versions() -> None:
    ours = [Sentence("a", (PAPER, program(["0.1.0", None]))), Sentence("b", (program(["0.2.0"]), PAPER))]
    found = citations.bibtex(ours)
    assert found.count("@") == 2 and found.startswith("@inproceedings{liu2018hierarchical,\n  title = {Hierarchical ")
    assert found.endswith("  note = {hpcnas 0.1.0 and 0.2.0},\n}")
    assert citations.plain(ours) == "a (Liu et al. 2018; hpcnas 0.1.0). b (hpcnas 0.2.0; Liu et al. 2018)."
    assert program([None]).short == "hpcnas of unknown version"


def test_what_is_cited_is_what_the_citation_file_says() -> None:
    told = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(PAPER.fields)
    assert fields["title"] in told and fields["note"] in told
    for name in fields["author"].split(" and "):
        family, given = name.split(", ")
        assert f"family-names: {family}\n        given-names: {given}" in told
    title = dict(program(["1"]).fields)["title"].replace("{", "").replace("}", "")
    assert f'title: "{title}"' in told
