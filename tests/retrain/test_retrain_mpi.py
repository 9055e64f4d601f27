"""`python -m hpcnas.retrain` under a real `mpirun`: killed, continued on other ranks, told to leave, used wrongly.

Numbers are float64, so that what was continued can be compared with what was never interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import mpi as launcher
import numpy as np
import PIL.Image
import pytest
import torch
from live_run import await_that, ranks
from patience import GUARD
from test_expansion import build
from warden import Child

from hpcnas.architecture import expansion
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.record import State
from hpcnas.training.network import Network

STEPS = 30
SMALL = [
    *("--genotype", "cell.toml", "--channels", "4", "--cells", "1", "1", "--steps", str(STEPS), "--precision", "fp64"),
    *("--batch-size", "12", "--micro-batch", "4", "--data", "synthetic:100:3x8x8", "--history-every", "5"),
    *("--threads", "1", "--progress", "plain", "--seed", "3"),
]
VALIDATED = [*SMALL, "--validation-fraction", "0.2", "--validate-every", "8"]


def retrain(*arguments: str) -> list[str]:
    return ["-m", "hpcnas.retrain", *arguments]


def alone(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *retrain(*arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=GUARD)


def write_cell(folder: Path) -> None:
    (folder / "cell.toml").write_text(build("1x3", ["1-2 sep, 2-3 dw, 1-3 max"]).text())


def status(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "status").read_text().splitlines())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The retraining by one process in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_cell(folder)
    done = alone(folder, *VALIDATED, "--run", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def assert_same(one: Path, two: Path) -> None:
    """The same history, validations, test and weights, but for the order of additions."""
    first, second = record_file.read(one), record_file.read(two)
    assert [row.step for row in first.history] == [row.step for row in second.history] == list(range(5, STEPS + 1, 5))
    assert [row.loss for row in second.history] == pytest.approx([row.loss for row in first.history], rel=1e-8)
    assert [row.accuracy for row in first.history] == [row.accuracy for row in second.history]
    validated = [[(one.step, one.images, one.accuracy) for one in found.validations] for found in (first, second)]
    assert validated[0] == validated[1] and [step for step, _, _ in validated[0]] == [8, 16, 24, STEPS]
    assert {images for _, images, _ in validated[0]} == {20}
    assert first.test_accuracies == second.test_accuracies
    said = [predictions.read(run, found, 3) for run, found in ((one, first), (two, second))]
    assert said[0] is not None and said[1] is not None and said[0].right.mean() == first.test_accuracies[0]
    assert (said[0].classes[:, 0] == said[1].classes[:, 0]).all()
    weights = [torch.load(record_file.weights_path(run, 3), weights_only=True) for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-7, atol=1e-10, msg=name)


def test_a_killed_retraining_goes_on_with_other_ranks_as_if_nothing_had_been(
    mpi: launcher.Mpi, tmp_path: Path, uninterrupted: Path
) -> None:
    write_cell(tmp_path)
    folder = tmp_path / "run"
    options = [*VALIDATED, "--run", "run", "--csv-log"]
    with launcher.start(mpi, 2, retrain(*options, "--checkpoint-interval", "0.05"), cwd=tmp_path) as job:
        await_that(lambda: job.poll() is not None or saved_steps(folder) >= 10, "ten saved steps")
        assert job.poll() is None, job.communicate()
        ranks(job)[1].kill()
        job.communicate(timeout=GUARD)
        assert job.returncode != 0
    assert status(folder)["state"] == "more"
    before = record_file.read(folder)
    assert 10 <= before.trainings[0].step < STEPS and before.trainings[0].state is State.TRAINING
    done = launcher.run(mpi, 3, retrain("--run", "run", "--genotype", "cell.toml"), cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"continuing seed 3 after step {before.trainings[0].step}" in done.stdout
    assert status(folder)["state"] == "complete" and status(folder)["steps_done"] == str(STEPS)
    assert [session.ranks for session in record_file.read(folder).sessions] == [2, 3]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["genotype.toml", "lock", "log", "metrics.csv", "predictions-3.h5", "retrain.h5", "status", "weights-3.pt"]
    )
    assert_same(uninterrupted, folder)
    _, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    steps = [int(row[1]) for row in rows]  # rows of the history, validations, and the test
    assert steps == [5, 8, 10, 15, 16, 20, 24, 25, STEPS, STEPS]


DESERTED = """
import sys
import torch.distributed
from hpcnas.retrain import __main__ as retrain
real, steps = torch.distributed.all_reduce, []
def all_reduce(tensor, **options):
    steps.append(1)
    if len(steps) > 8:
        raise RuntimeError("pair.cc:547] Connection closed by peer [127.0.0.1]:31743")
    return real(tensor, **options)
torch.distributed.all_reduce = all_reduce
sys.exit(retrain.main())
"""


def test_a_rank_whose_peer_is_gone_leaves_more_to_do(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    write_cell(tmp_path)
    options = [*SMALL, "--run", "run", "--checkpoint-interval", "0"]
    options += ["--batch-statistics", "micro-batch"]  # one sum over ranks a step
    done = launcher.run(one_mpi, 2, ["-c", DESERTED, *options], cwd=tmp_path)
    assert done.returncode == 75, done.stdout + done.stderr
    assert status(tmp_path / "run")["state"] == "more" and saved_steps(tmp_path / "run") == 8
    expected = "another rank is gone or cannot be reached: pair.cc:547] Connection closed by peer [127.0.0.1]:31743"
    assert expected in (tmp_path / "run" / "log").read_text() and expected in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


HUNGRY = """
import os
import sys
import torch
from hpcnas.retrain import __main__ as retrain, loop
real, pieces = loop.DistributedTraining._run_piece, []
def hungry(training, piece):
    pieces.append(1)
    if training._group.rank == 1 and len(pieces) > 4:
        torch.empty(1 << 55)
    real(training, piece)
loop.DistributedTraining._run_piece = hungry
sys.exit(retrain.main())
"""


def test_a_rank_without_memory_leaves_together_with_the_others_and_one_sentence(
    one_mpi: launcher.Mpi, tmp_path: Path
) -> None:
    write_cell(tmp_path)
    done = launcher.run(one_mpi, 3, ["-c", HUNGRY, *SMALL, "--run", "run"], cwd=tmp_path)
    assert done.returncode == 1 and status(tmp_path / "run")["state"] == "broken", done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" is out of memory: ") == 1
    assert "Traceback" not in done.stdout + done.stderr and "terminate" not in done.stderr
    assert " ERROR rank 1 on " in (tmp_path / "run" / "log").read_text()


HANGING = """
import os
import sys
import threading
from pathlib import Path
from hpcnas.retrain import __main__ as retrain, image_stream
kind = getattr(image_stream, sys.argv.pop(1))
real = kind.__getitem__
def hang(images, number):
    if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "1")) == "0":
        return real(images, number)
    Path("hanging").touch()
    threading.Event().wait()
kind.__getitem__ = hang
sys.exit(retrain.main())
"""


def hanging(images: str, folder: Path) -> list[str]:
    """Arguments of Python for a retraining whose images do not come, those of rank 0 of several excepted."""
    write_cell(folder)
    for place in ("train/ape", "train/bee", "val/ape", "val/bee"):
        (folder / "images" / place).mkdir(parents=True)
        PIL.Image.new("RGB", (8, 8)).save(folder / "images" / place / "1.png")
    options = [*SMALL, "--data", "imagefolder:images", "--loading", "stream", "--image-size", "8", "--loaders", "0"]
    return ["-c", HANGING, images, *options, "--run", "run"]


@pytest.mark.parametrize("images", ["_LookedAt", "_TrainingImages"])
def test_a_signal_is_heard_while_an_image_does_not_come(images: str, tmp_path: Path) -> None:
    """As those of a file server that is gone: before the training, where test images are looked at, and within it."""
    command = [sys.executable, *hanging(images, tmp_path)]
    with Child(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        await_that(lambda: process.poll() is not None or (tmp_path / "hanging").exists(), "an image that does not come")
        process.terminate()
        said = process.communicate(timeout=GUARD)[0]
    assert process.returncode == 75 and status(tmp_path / "run")["state"] == "more", said
    assert "SIGTERM received" in said


def test_a_rank_whose_test_image_does_not_come_hears_of_a_signal_to_another(
    one_mpi: launcher.Mpi, tmp_path: Path
) -> None:
    with launcher.start(one_mpi, 2, hanging("_LookedAt", tmp_path), cwd=tmp_path) as job:
        await_that(lambda: job.poll() is not None or (tmp_path / "hanging").exists(), "an image that does not come")
        ranks(job)[0].send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=GUARD)
    assert job.returncode == 75 and status(tmp_path / "run")["state"] == "more", out + err
    assert "SIGTERM received" in out + err


IMPATIENT = """
import sys
from hpcnas.retrain import __main__ as retrain, hearing
hearing.LIFE = 1.0
sys.exit(retrain.main())
"""


def test_a_signal_is_heard_while_rank_0_is_stopped(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    """Though the words of ranks are in its process; the last save is kept."""
    write_cell(tmp_path)
    options = [*SMALL, "--run", "run", "--steps", "1000000", "--checkpoint-interval", "0.05"]
    with launcher.start(one_mpi, 2, ["-c", IMPATIENT, *options], cwd=tmp_path) as job:
        await_that(lambda: job.poll() is not None or saved_steps(tmp_path / "run") >= 3, "three saved steps")
        found = ranks(job)
        found[0].suspend()
        found[1].send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=GUARD)
    assert "this job is to leave, and rank 0 has not answered for 1 s" in out + err
    assert job.returncode in (75, 9)  # MPICH's mpirun may return how the stopped rank ended
    assert status(tmp_path / "run")["state"] == "more" and record_file.read(tmp_path / "run").trainings[0].step >= 3


STOPPED = """
import os
import signal
import sys
from pathlib import Path
from hpcnas.retrain import __main__ as retrain, hearing, inspection, keeper
hearing.LIFE = 1.0
moments = {"loading": (inspection, "open_feed"), "the end": (keeper.Bystander, "training_complete")}
owner, name = moments[sys.argv.pop(1)]
real = getattr(owner, name)
def stop(*arguments):
    if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
        Path("stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(*arguments)
setattr(owner, name, stop)
sys.exit(retrain.main())
"""


@pytest.mark.parametrize("when", ["loading", "the end"])
def test_a_signal_is_heard_where_ranks_wait_for_one_that_is_stopped_over_mpi(
    when: str, one_mpi: launcher.Mpi, tmp_path: Path
) -> None:
    write_cell(tmp_path)
    with launcher.start(one_mpi, 3, ["-c", STOPPED, when, *SMALL, "--run", "run"], cwd=tmp_path) as job:
        await_that(lambda: job.poll() is not None or (tmp_path / "stopped").exists(), "a rank that stops")
        ranks(job)[0].send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=GUARD)
    said = {"loading": "SIGTERM received: ", "the end": "and rank 1"}
    assert said[when] in out + err and " has not answered for 1 s" in out + err and "Traceback" not in out + err
    assert job.returncode in (75, 9)  # as above
    assert status(tmp_path / "run")["state"] == "more"
    if when == "the end":
        assert record_file.read(tmp_path / "run").trainings[0].state is State.COMPLETE


def saved_steps(folder: Path) -> int:
    try:
        return int(status(folder)["steps_done"])
    except (OSError, KeyError):
        return 0


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_saves_and_leaves_and_more_runs_follow(name: str, tmp_path: Path, uninterrupted: Path) -> None:
    write_cell(tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, *retrain(*SMALL, "--run", "run", "--checkpoint-interval", "0.05")]
    with Child(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        await_that(lambda: process.poll() is not None or saved_steps(folder) >= 3, "three saved steps")
        os.kill(process.pid, signal.Signals[name])
        said, complained = process.communicate(timeout=GUARD)
    assert process.returncode == 75, said + complained
    assert f"{name} received" in said and status(folder)["state"] == "more"
    if name == "SIGTERM":
        return
    done = alone(tmp_path, "--run", "run", "--runs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    found = record_file.read(folder)
    assert [(each.seed, each.state) for each in found.trainings] == [(3, State.COMPLETE), (4, State.COMPLETE)]
    assert "(mean ± std of 2 runs)" in done.stdout and status(folder)["runs_complete"] == "2"
    network = Network(expansion.expand(found.genotype), found.inputs.skeleton)
    network.load_state_dict(torch.load(record_file.weights_path(folder, 4), weights_only=True))
    again = alone(tmp_path, "--run", "run")
    assert again.returncode == 0 and "is finished" in again.stdout
    other = alone(tmp_path, "--run", "run", "--batch-size", "48", "--runs", "3")
    assert other.returncode == 2 and "training.batch_size: 12 → 48" in other.stderr


def test_the_end_of_the_job_is_asked_for_once_for_all_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    write_cell(tmp_path)
    done = alone(tmp_path, *SMALL, "--run", "run", "--runs", "2", "--steps", "1")
    assert done.returncode == 0 and len(record_file.read(tmp_path / "run").test_accuracies) == 2, done.stderr
    assert (tmp_path / "asked").read_text() == "asked\n"


FULL = """
import os
import signal
import sys
import torch
from hpcnas.retrain import __main__ as retrain
real, saves = torch.save, []
def save(state, file):
    saves.append(file)
    if len(saves) > 5:
        os.kill(os.getpid(), signal.SIGUSR1)
    if len(saves) > 3:
        raise OSError(122, "Disk quota exceeded")
    real(state, file)
torch.save = save
sys.exit(retrain.main())
"""


def test_a_last_save_that_fails_breaks_the_job_and_only_what_is_saved_is_told(tmp_path: Path) -> None:
    write_cell(tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, "-c", FULL, *SMALL, "--run", "run", "--checkpoint-interval", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "where step 3 is the last one saved: Disk quota exceeded; mend that, and start" in done.stdout
    (warned,) = [line for line in done.stdout.splitlines() if "is not saved in" in line]
    assert "step 4 is not saved" in warned and "a job that is cut off loses the steps since step 3" in warned
    assert (status(folder)["state"], status(folder)["steps_done"]) == ("broken", "3")
    (training,) = record_file.read(folder).trainings
    assert (training.step, training.state) == (3, State.TRAINING)
    kept = (folder / "checkpoint.pt").rename(tmp_path / "kept.pt")
    without = alone(tmp_path, "--run", "run")
    assert without.returncode == 2 and "to hold the state of seed 3, saved after step 3, but there is" in without.stdout
    kept.rename(folder / "checkpoint.pt")
    again = alone(tmp_path, "--run", "run")
    assert again.returncode == 0 and "continuing seed 3 after step 3" in again.stdout, again.stdout + again.stderr


def images_of(folder: Path) -> None:
    """Images of two classes and of differing sizes, one of each split broken. A class and a broken one have names that
    are not UTF-8, as Python reads them."""
    draw = np.random.default_rng(1)
    for split, count in (("train", 20), ("val", 4)):
        for name in ("ape", "b\udcfc"):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                height, width = draw.integers(40, 60, size=2)
                pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(place / f"{number}.jpg")
        (folder / split / "ape" / "0.jpg").rename(folder / split / "ape" / "\udcfc.jpg")
        (folder / split / "ape" / "\udcfc.jpg").write_bytes(b"no image")


def test_imagenets_way_with_loader_processes_and_broken_images(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    write_cell(tmp_path)
    images_of(tmp_path / "images")
    options = [
        *("--preset", "imagenet", "--data", "imagefolder:images", "--genotype", "cell.toml", "--channels", "4"),
        *("--image-size", "32", "--steps", "6", "--batch-size", "24", "--micro-batch", "8", "--history-every", "3"),
        *("--threads", "1", "--loaders", "1", "--progress", "plain", "--run", "run"),
        *("--max-broken", "1"),  # which both ranks meet
    ]
    done = launcher.run(one_mpi, 2, retrain(*options), cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    found = record_file.read(tmp_path / "run")
    assert found.broken == ["val/ape/\udcfc.jpg", "train/ape/\udcfc.jpg"]  # those of the test are known first
    assert found.trainings[0].test_images == 7 and found.trainings[0].input_wait is not None
    assert (found.inputs.resize, found.inputs.class_names) == (37, ("ape", "b\udcfc"))
    assert (found.inputs.skeleton.height, found.inputs.skeleton.width) == (32, 32)
    (tmp_path / "images" / "val" / "ape" / "\udcfc.jpg").unlink()
    strict = alone(tmp_path, *options, "--run", "strict", "--max-broken", "0")
    assert strict.returncode == 1 and "expected at most 0 unreadable images, got 1" in strict.stdout
    assert status(tmp_path / "strict")["state"] == "broken"
    assert record_file.read(tmp_path / "strict").broken == ["train/ape/\udcfc.jpg"]
    assert "cannot be read and were passed over: train/ape/\\udcfc.jpg" in (tmp_path / "strict" / "log").read_text()


WRONG = {
    "too many ranks": (["--batch-size", "2"], "expected at most 2 ranks, one for each image of a batch of 2, got 3"),
    "micro-batches": (
        ["--batch-statistics", "micro-batch", "--micro-batch", "32"],
        "expected at most 2 ranks, one for each 32 images of a batch of 64, got 3; start fewer, or give a smaller",
    ),
    "no GPU": (["--device", "cuda"], "expected a GPU for every worker (--device cuda)"),
    "unknown genotype": (["--genotype", "nowhere:3"], "--genotype nowhere:3: expected RUN, RUN:best, "),
    "unknown address": (
        ["--address", "nowhere.invalid"],
        "expected all ranks to reach rank 0's host as nowhere.invalid, but",
    ),
    "missing data": (["--data", "imagefolder:nowhere"], "expected nowhere/train to hold"),
}


def refused(mpi: launcher.Mpi, case: str, folder: Path) -> None:
    """One message, once, and exit code 2."""
    arguments, expected = WRONG[case]
    done = launcher.run(mpi, 3, retrain(*arguments), cwd=folder, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(expected) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_too_many_ranks_are_refused_under_every_launcher(mpi: launcher.Mpi, tmp_path: Path) -> None:
    refused(mpi, "too many ranks", tmp_path)


@pytest.mark.parametrize("case", sorted(set(WRONG) - {"too many ranks"}))
def test_wrong_use_is_refused(case: str, one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    refused(one_mpi, case, tmp_path)


def test_a_gpu_that_torch_cannot_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-00000000-0000-0000-0000-000000000000")
    done = alone(tmp_path, "--run", "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert re.search(r"expected the GPU GPU-0000\S+ to be usable, but torch \S+ sees none", done.stdout)
    assert os.listdir(tmp_path / "run") == ["log"]


WITHOUT_TORCH = """
import sys
from hpcnas.retrain import __main__ as retrain
exit_code = retrain.main()
assert "torch" not in sys.modules
sys.exit(exit_code)
"""


def test_dry_run_says_what_it_would_do_loads_no_torch_and_writes_nothing(tmp_path: Path) -> None:
    said = {}
    for preset in ("cifar-large", "imagenet"):
        command = [sys.executable, "-c", WITHOUT_TORCH, "--preset", preset, "--dry-run", "--threads", "1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD)
        assert done.returncode == 0, done.stderr
        said[preset] = done.stdout
    assert "15,727,306 parameters" in said["cifar-large"]
    assert "divided by 10 after 40,000, 60,000, 70,000 steps" in said["cifar-large"]
    assert "62,832,520 parameters" in said["imagenet"]
    assert "batch statistics of 32 micro-batches of 32" in said["imagenet"]
    assert list(tmp_path.iterdir()) == []


def test_a_searchs_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "population.h5").write_bytes(b"")
    done = alone(tmp_path, *retrain("--run", "run")[2:])
    assert done.returncode == 2 and "holds a search; give another --run" in done.stderr


def test_the_best_of_a_search_is_taken_with_its_origin(tmp_path: Path) -> None:
    search = "--evaluator synthetic --space 2x3/1x3 --budget 6 --initial-population 4 --initial-mutations 9 --run runs"
    command = [sys.executable, "-m", "hpcnas", *search.split()]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=GUARD)
    options = "--channels 2 --cells 1 --steps 1 --batch-size 4 --micro-batch 4 --data synthetic:20:3x8x8 --threads 1"
    done = alone(tmp_path, "--genotype", "runs:best", "--run", "run", *options.split())
    assert done.returncode == 0, done.stdout + done.stderr
    origin = record_file.read(tmp_path / "run").origin
    assert origin.source == f"runs:{origin.individual}" and origin.strategy == "tournament"
    assert origin.run is not None and origin.evaluation is not None and 0.0 < (origin.fitness or 0.0) < 1.0
