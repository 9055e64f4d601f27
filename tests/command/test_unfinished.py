"""What `export` and `predict` hand out of a training that is not complete: what its checkpoint has, told loudly; never
of one that has diverged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
import torch
from test_trained import module, refused, written
from toolruns import POOLING
from whole_retraining import kept, recorded

from hpcnas.analysis import learnt
from hpcnas.architecture import expansion
from hpcnas.command import export, predict
from hpcnas.retrain import record_file, underway
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.record import Record, State
from hpcnas.training import checkpoints
from hpcnas.training.network import Network

torch.set_num_threads(1)
AVERAGED = {"training": {"weight_averaging": 0.5, "auxiliary_weight": 0.4}}
STEPS = "after step 20 of 40, which nothing was tested with"


def saved(folder: Path, record: Record, seed: int = 1) -> DistributedTraining:
    """The training of that seed after step 20, whose numbers are made up, saved beside the record."""
    training = underway.without_images(record, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in training._tensors():
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    training.step = 20
    checkpoints.save(folder / "checkpoint.pt", training.state())
    return training


@pytest.fixture
def record() -> Record:
    return recorded((State.TRAINING, State.WAITING), AVERAGED | {"run": {"history_every": 10}}, genotype=POOLING)


@pytest.fixture
def folder(tmp_path: Path, record: Record) -> Path:
    """Seed 0 is under way, seed 1 waits."""
    return kept(tmp_path / "large", record)


def test_the_weights_are_those_that_would_be_tested(
    folder: Path, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = saved(folder, record, 0)
    found = torch.load(written("weights", folder, tmp_path / "weights.pt"), weights_only=True)
    said = capsys.readouterr()
    assert said.err == f"{folder}, seed 0: NOT COMPLETE: averaged weights {STEPS}\n"
    assert f"state NOT COMPLETE: averaged weights {STEPS}" in said.out
    assert all(torch.equal(value, found[name]) for name, value in training.weights().items())
    assert torch.equal(found["classifier.weight"], training._averages[_place(training)])
    assert {int(value) for name, value in found.items() if name.endswith("num_batches_tracked")} == {20}
    exported = module(f"{folder}:0", tmp_path)
    assert "State: NOT COMPLETE: averaged weights" in (tmp_path / "network.py").read_text()
    exported.load(tmp_path / "weights.pt")
    assert export.main(["text", str(folder)]) == 0
    assert capsys.readouterr().err.count("NOT COMPLETE") == 1  # of the module alone


def _place(training: DistributedTraining) -> int:
    """Which of the parameters is the classifier's weight."""
    return [value is training.network.classifier.weight for value in training._parameters].index(True)


def test_predict_takes_them_too_and_says_so(
    folder: Path, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = saved(folder, record, 0)
    PIL.Image.new("L", (8, 8), 200).save(tmp_path / "grey.png")
    assert predict.main(["--json", str(folder), str(tmp_path / "grey.png"), "--top", "1"]) == 0
    said = capsys.readouterr()
    assert said.err == f"{folder}, seed 0: NOT COMPLETE: averaged weights {STEPS}\n"
    network = Network(expansion.expand(POOLING), record.inputs.skeleton)
    network.load_state_dict(training.weights())
    with torch.no_grad():
        scores = network.eval()(torch.full((1, 1, 8, 8), (200 - 77.5) / 95.0))
    (only,) = json.loads(said.out)
    assert only["classes"][0]["class"] == str(int(scores.argmax()))
    assert only["classes"][0]["probability"] == pytest.approx(float(scores.softmax(1).max()), abs=1e-4)


def test_a_complete_training_goes_before_and_a_seed_may_name_the_other(tmp_path: Path) -> None:
    record = recorded((State.COMPLETE, State.TRAINING), genotype=POOLING)
    folder = kept(tmp_path / "large", record)
    saved(folder, record)
    network = Network(expansion.expand(POOLING), record.inputs.skeleton)
    checkpoints.save(record_file.weights_path(folder, 0), network.state_dict())
    assert learnt.learnt(str(folder)).unfinished is None
    other = learnt.learnt(f"{folder}:1")
    assert other.unfinished is not None and other.remark == f"{folder}, seed 1: NOT COMPLETE: weights {STEPS}"


def test_a_training_that_ends_just_now_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is read before it ends, its checkpoint looked for after that."""
    before = recorded((State.TRAINING,), genotype=POOLING)
    folder = kept(tmp_path / "large", before)
    real = underway.load

    def ends(*given: object) -> object:
        record_file.write(folder, recorded((State.COMPLETE,), genotype=POOLING))
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(underway, "load", ends)
    found = learnt.learnt(str(folder))
    assert found.unfinished is None and found.training.state is State.COMPLETE


def test_what_is_not_there_or_no_use_is_told_in_one_line(folder: Path, record: Record, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    assert f"seed 0, which is not complete, but there is no {folder}/checkpoint.pt" in refused("weights", folder, *out)
    saved(folder, record)
    assert "which is not complete, but" in refused("weights", folder, *out)  # another seed's
    training = saved(folder, record, 0)
    assert "no training is complete yet" in refused("weights", f"{folder}:1", *out)  # it waits
    whole = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(whole[:1000] + b"!" + whole[1001:])
    assert "checkpoint.pt is damaged: its checksum" in refused("onnx", folder, *out)
    checkpoints.save(folder / "checkpoint.pt", {"seed": 0, "tensors": []})
    assert "checkpoint.pt: expected the state of seed 0: " in refused("weights", folder, *out)
    training.network.classifier.weight.data[0] = float("nan")
    training._averages[_place(training)][0] = float("nan")
    checkpoints.save(folder / "checkpoint.pt", training.state())
    assert "expected weights that are finite; the training of seed 0 has diverged" in refused("weights", folder, *out)
    assert not (tmp_path / "out").exists()


def test_what_has_diverged_is_never_handed_out(tmp_path: Path) -> None:
    record = recorded((State.DIVERGED,), genotype=POOLING)
    folder = kept(tmp_path / "large", record)
    saved(folder, record, 0)
    for source in (folder, f"{folder}:0"):
        assert "seed 0 was not finite" in refused("weights", source, "-o", tmp_path / "out")
    shutil.rmtree(folder)
    two = recorded((State.DIVERGED, State.TRAINING), genotype=POOLING)
    saved(kept(folder, replace(two, trainings=two.trainings)), two)
    assert learnt.learnt(str(folder)).training.seed == 1
    assert "seed 0 was not finite" in refused("weights", f"{folder}:0", "-o", tmp_path / "out")
