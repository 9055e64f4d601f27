"""What the first genotype that a search evaluated is called: Table 1 has a row for it, and the gains of Figure 4 are
over it.

The paper's is one random architecture: drawn from its spaces by its many mutations, and refused for nothing but being
invalid. What was given, or drawn in another way, is called something else. Prints nothing.
"""

from __future__ import annotations

from hpcnas.config.search import STRATEGIES
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain.record import Origin

ONE = "one random architecture"
_SPACES = ("flat", "hierarchical")
_DRAWN_BY = ("initial_mutations", "max_flops")  # departures of a search that change what is drawn first
_OTHERWISE = {
    Birth.MUTATION: "one mutated architecture",
    Birth.FOUNDER: "the first architecture of a merged run",
    Birth.GIVEN: "one given architecture",
    Birth.CONFIRMATION: "one confirmed architecture",
}


def called(origin: Origin) -> str:
    """What the individual is called that its search evaluated first; `ONE` of the paper's kind alone. Of the settings
    of the search, those are named that make it another kind."""
    if origin.birth in _OTHERWISE:
        return _OTHERWISE[origin.birth]
    if origin.departures is None:
        return "the first architecture evaluated, settings unknown"
    told = origin.departures.split(", ")
    if origin.birth is None and (unclear := [each for each in told if each in ("initial given", "merged")]):
        return f"the first architecture evaluated, {', '.join(unclear)}"
    changed = [each for each in told if each.partition(" ")[0] in _DRAWN_BY]
    if origin.max_parameters is not None:
        changed.insert(0, f"max_parameters {origin.max_parameters}")
    if origin.space not in _SPACES:
        changed.insert(0, f"space {origin.space}")
    if origin.strategy not in STRATEGIES:
        changed.append(f"strategy {origin.strategy}")
    return f"one architecture drawn with {', '.join(changed)}" if changed else ONE
