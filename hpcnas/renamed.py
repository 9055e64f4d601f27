"""Names of files before version 0.2, which go on to be importable with a DeprecationWarning (UPGRADING.md).

The package asks here for what nothing else has found. Names that rooms have by now (`config`, `data`, `evolution`,
`job`, `retrain`, `training`) cannot go on.
"""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

NAMES = {
    "aging": "evolution.aging",
    "allowed": "storage.allowed",
    "attention": "search.attention",
    "augment": "data.augment",
    "averaging": "retrain.regularisation",
    "blockbackward": "training.cuda.backward",
    "blockforward": "training.cuda.forward",
    "blockparts": "training.cuda.block_layout",
    "blockplan": "training.cuda.parameters",
    "blockprogram": "training.cuda.program",
    "blocks": "training.cuda.block_graph",
    "bounds": "config.bounds",
    "caches": "training.caches",
    "canonical": "architecture.expansion",
    "causes": "training.causes",
    "checkpoints": "training.checkpoints",
    "clocks": "job.clocks",
    "controller": "search.controller",
    "costs": "evolution.objectives",
    "counting": "architecture.sizes",
    "dataspec": "config.data_spec",
    "devices": "search.crew",
    "distributed": "retrain.process_group",
    "draws": "architecture.fast_integers",
    "dryrun": "search.dry_run",
    "duplicates": "evolution.duplicates",
    "durable": "storage.durable",
    "durations": "config.durations",
    "evaluation": "training.evaluator",
    "evaluator": "training.trainer_process",
    "exits": "job.status",
    "fastest": "training.choice",
    "feed": "retrain.feed",
    "folder": "storage.folder",
    "genotype": "architecture.genotype",
    "given": "evolution.initial",
    "heartbeat": "training.heartbeat",
    "imagefolder": "data.image_folder",
    "imagestream": "retrain.image_stream",
    "individuals": "evolution.individuals",
    "interpreter": "training.interpreter",
    "jobenv": "job.devices",
    "journal": "storage.journal",
    "kernels": "training.cpu.kernels",
    "landscape": "search.landscape",
    "large": "architecture.skeleton",
    "launch": "job.launch",
    "lock": "storage.lock",
    "log": "job.log",
    "memory": "architecture.sizes",
    "memorystore": "search.memory_store",
    "methods": "search.methods",
    "mutation": "architecture.mutation",
    "network": "training.network",
    "nsga2": "evolution.nsga2",
    "operations": "training.network",
    "options": "config.options",
    "order": "retrain.feed",
    "origins": "retrain.origin",
    "pareto": "evolution.pareto",
    "plan": "training.cpu.parameters",
    "planned": "training.cpu.compiled",
    "plugged": "search.plugged",
    "pooling": "evolution.repeats",
    "population": "evolution.population",
    "primitives": "architecture.primitives",
    "probing": "training.probing",
    "profiling": "training.profiling",
    "program": "training.cpu.program",
    "progress": "search.progress",
    "racing": "evolution.racing",
    "randomsearch": "evolution.random_search",
    "ranking": "evolution.ranking",
    "recipe": "config.retraining",
    "records": "search.records",
    "recovery": "search.recovery",
    "regularisation": "retrain.regularisation",
    "replay": "analysis.replay",
    "retraindryrun": "retrain.dry_run",
    "retrainfile": "retrain.record_file",
    "retrainfolder": "retrain.record_keeper",
    "retraining": "retrain.loop",
    "retrainjob": "retrain.job",
    "retrainreport": "retrain.progress",
    "retries": "search.retries",
    "runfile": "search.run_file",
    "runvalues": "search.run_values",
    "sameness": "architecture.network_hash",
    "schedules": "training.schedules",
    "scheduling": "evolution.budget",
    "sealed": "storage.sealed",
    "searchpath": "search_path",
    "selection": "evolution.tournament",
    "serving": "training.trainer_loop",
    "session": "search.session",
    "settings": "config.settings",
    "signals": "job.signals",
    "simulate": "search.simulate",
    "skeleton": "architecture.skeleton",
    "sources": "search.initial",
    "space": "architecture.space",
    "stacked": "training.cuda.stacked",
    "starts": "training.starts",
    "store": "search.file_store",
    "strategies": "evolution.registry",
    "sums": "retrain.sums",
    "synthetic": "search.synthetic",
    "terminal": "job.terminal",
    "textfile": "text_file",
    "torchvision_shim": "data.torchvision_shim",
    "tournament": "evolution.tournament",
    "trainer": "training.trainer",
    "transport": "job.transport",
    "verification": "analysis.verification",
    "walltime": "job.walltime",
    "wholerun": "search.whole_run",
    "worker": "search.worker",
}


class _SameModule:
    """Gives the module that another name stands for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        __import__(self._name)
        module = sys.modules[self._name]
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importing has given it the older name's


def find_spec(name: str) -> ModuleSpec | None:
    """`hpcnas.canonical` as `hpcnas.architecture.expansion`, and so on; None for what never was."""
    older = name.removeprefix("hpcnas.")
    if older not in NAMES:
        return None
    newer = f"hpcnas.{NAMES[older]}"
    warnings.warn(f"{name} is {newer} since hpcnas 0.2", DeprecationWarning, stacklevel=3)
    return ModuleSpec(name, _SameModule(newer))  # type: ignore[arg-type]
