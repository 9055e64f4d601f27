"""Rank 0 begins its session of a retraining: what is asked for is checked, and the folder opened or created.

    request ─► Plan (what is to be trained) ─► folder, locked ─► RecordKeeper

A dry run ends with the plan, and changes nothing. What happens from then on is `record_keeper`'s business.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpcnas.config import class_weights
from hpcnas.config.options import Request
from hpcnas.config.retraining import SCHEME, RetrainingConfig, RetrainingRunSettings
from hpcnas.errors import Error
from hpcnas.job.status import COMPLETE
from hpcnas.retrain import record_file, weights_source
from hpcnas.retrain.file_store import FILES, RetrainingStore
from hpcnas.retrain.origin import resolve_genotype
from hpcnas.retrain.progress import final_table
from hpcnas.retrain.record import Plan, Record, Start, State, Trained
from hpcnas.retrain.record_keeper import RecordKeeper
from hpcnas.search import references
from hpcnas.search.file_store import FileStore
from hpcnas.storage import lock
from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.held import HeldFolder, Take, once_more_if_gone
from hpcnas.tracking import choice


class RetrainingRefused(Error):
    """The retraining cannot be created or continued as asked: text for a person."""


class RetrainingFinished(Exception):
    """There is nothing left to do: the result, as text."""


def read_plan(request: Request) -> Plan:
    """What the request would train; changes nothing. Raises RetrainingRefused or ConfigError."""
    path = Path(_run_settings(request).run)
    try:
        _refuse_search(path)
        return _continued(path, request) if record_file.exists(path) else _new(path, request)
    except StoreError as error:
        raise RetrainingRefused(str(error)) from None


def open_retraining(
    request: Request,
    leave: Callable[[], str | None] = lambda: None,
    say: Callable[[str], object] = lambda text: None,
) -> RecordKeeper:
    """The retraining that the request names, in a folder that is made if there is none. `leave` and `say` as of
    `lock.take`. Raises RetrainingRefused, RetrainingFinished, ConfigError, lock.Interrupted."""
    asked = _run_settings(request)
    path = Path(asked.run)
    take = functools.partial(lock.take, wait=asked.lock_wait, leave=leave, say=say)
    try:
        keeper = once_more_if_gone(lambda: _opened(path, request, take), lambda: os.path.isdir(path))
    except StoreError as error:
        raise RetrainingRefused(str(error)) from None
    except OSError as error:
        raise RetrainingRefused(f"expected to read in {path}: {error.strerror}") from None
    if not keeper.plan.waiting:  # the job that finished it may have been killed before it said so
        assert keeper.plan.record is not None, "something was trained"
        table = final_table(keeper.plan.record)
        keeper.close(COMPLETE)
        raise RetrainingFinished(f"the retraining {path} is finished (more --runs continue it)\n{table}")
    return keeper


def _run_settings(request: Request) -> RetrainingRunSettings:
    given = {key: value for layer in request.layers for key, value in layer.get("run", {}).items()}
    return RetrainingRunSettings(**given)  # type: ignore[arg-type]  # the rest need not fit together without the run's own


def _opened(path: Path, request: Request, take: Take) -> RecordKeeper:
    """Raises StoreError, OSError, RetrainingRefused, ConfigError, lock.Interrupted."""
    _refuse_search(path)
    plan = None if record_file.exists(path) else _new(path, request)
    held = HeldFolder.take(RunFolder(path) if plan is None else RunFolder.make(path), take, FILES)
    try:
        _refuse_search(path)  # what another job has left is known for certain only now
        if plan is None or record_file.exists(path):
            plan = _continued(path, request)
        if (problem := held.place.problem()) is not None:
            raise StoreError(problem)
        return RecordKeeper(plan, RetrainingStore(held, None if plan.record is None else plan.record.run))
    except BaseException:
        held.close()
        raise


def _refuse_search(path: Path) -> None:
    if FileStore.exists(path):
        raise RetrainingRefused(f"expected a folder for a retraining, but {path} holds a search; give another --run")


def _written_out(recipe: RetrainingConfig) -> RetrainingConfig:
    """It with class weights that a file may lose. Raises ConfigError."""
    weights = class_weights.written_out(recipe.training.class_weights)
    return replace(recipe, training=replace(recipe.training, class_weights=weights))


def _new(path: Path, request: Request) -> Plan:
    """That of a retraining that begins; creates nothing. Raises RetrainingRefused, ConfigError."""
    recipe = _written_out(SCHEME.build(*request.base, *request.layers))
    choice.check(recipe.run)
    genotype, origin = resolve_genotype(recipe.network.genotype)
    if "+" in origin.space and recipe.network.plugins is None:
        raise RetrainingRefused(
            f"the space {origin.space} of {origin.source} has a plugin's primitives: give its --plugin"
        )
    return Plan(recipe, genotype, origin, None, start=weights_source.find(recipe, genotype))


def _continued(path: Path, request: Request) -> Plan:
    """That of a retraining that goes on. Raises StoreError, RetrainingRefused, ConfigError."""
    record = record_file.read(path)
    asked = SCHEME.build(SCHEME.lasting(record.recipe), *request.layers)
    recipe = record.on_its_images(_written_out(asked))
    choice.check(recipe.run)
    changed = SCHEME.differences(record.recipe, recipe)
    start, told = _start(record, recipe, request, begins=bool(changed))
    changed += told
    anew = bool(changed) and _may_begin_anew(record, changed)
    if changed and not anew:
        listing = "\n  ".join(changed)
        raise RetrainingRefused(
            f"the retraining {path} was made with other settings; leave them out to continue it, or choose "
            f"another --run:\n  {listing}"
        )
    if any("genotype" in layer.get("network", {}) for layer in request.layers):
        genotype, origin = resolve_genotype(recipe.network.genotype)
        by_number = isinstance(references.parse(recipe.network.genotype), references.ById)
        best_again = origin.run is not None and origin.run == record.origin.run and not by_number
        if genotype != record.genotype and not best_again:  # the best of that search may be another one by now
            raise RetrainingRefused(
                f"the retraining {path} is that of another genotype, {record.origin.source}; leave out --genotype "
                "to continue it, or choose another --run"
            )
    record.recipe = recipe
    if anew:
        record.weights = None if start is None else start.fingerprint
        record.trainings, record.history, record.validations, record.micro_batch = [], [], [], None
    known = {trained.seed for trained in record.trainings}
    record.trainings += [Trained(seed) for seed in recipe.seeds if seed not in known]
    return Plan(recipe, record.genotype, record.origin, record, anew, start)


def _start(
    record: Record, recipe: RetrainingConfig, request: Request, begins: bool
) -> tuple[Start | None, list[str]]:
    """What trainings that begin start from, where some do or it was named anew; and in what it is not what the others
    have started from, as a line. `begins`: all of them do. Raises ConfigError."""
    named = any("weights" in layer.get("network", {}) for layer in request.layers)
    state = {found.seed: found.step for found in record.trainings}
    if not named and not begins and all(state.get(seed, 0) for seed in recipe.seeds):
        return None, []
    start = weights_source.find(recipe, record.genotype)
    fingerprint = None if start is None else start.fingerprint
    return start, [] if fingerprint == record.weights else [f"network.weights: {record.weights} → {fingerprint}"]


def _may_begin_anew(record: Record, changed: list[str]) -> bool:
    """Whether these settings may be changed because a training has diverged: those of how it trains, as long as no
    training is complete, which they would have to hold for as well."""
    states = {found.state for found in record.trainings}
    how = all(line.startswith(("training.", "augmentation.", "network.weights:")) for line in changed)
    return how and State.DIVERGED in states and State.COMPLETE not in states
