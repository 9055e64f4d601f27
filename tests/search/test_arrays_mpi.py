"""A whole search under a real `mpirun` by images of one's own, in a compressed HDF5 file: all workers of a host map one
file that one of them has unpacked."""

from __future__ import annotations

from pathlib import Path

import h5py
import mpi as launcher
import numpy as np
from live_run import await_that

from hpcnas.analysis import replay
from hpcnas.search import run_file

SMALL = [
    *("--budget", "6", "--initial-population", "4", "--steps", "3", "--batch-size", "16", "--channels", "2"),
    *("--replicates", "1", "--initial-mutations", "30", "--threads", "1", "--progress", "plain", "--padding", "1"),
    *("--fitness", "balanced-accuracy"),
]
IMAGES, SIDE, CHANNELS = 16_400, 16, 4  # of float32: a little more than the 64 MiB from which on images are shared


def write(file: Path) -> None:
    """Three classes, told by the mean of a channel each; groups of ten images; 60 images to validate on."""
    generator, labels = np.random.default_rng(0), np.arange(IMAGES) % 3
    block = generator.normal(size=(100, SIDE, SIDE, CHANNELS)).astype(np.float32)
    with h5py.File(file, "w") as content:
        shape = (IMAGES, SIDE, SIDE, CHANNELS)
        images = content.create_dataset("train/images", shape, np.float32, chunks=(100, *shape[1:]), compression="lzf")
        for start in range(0, IMAGES, 100):
            part = block.copy()
            part[np.arange(100), :, :, labels[start : start + 100]] += 1.0
            images[start : start + 100] = part
        content["train/labels"], content["train/groups"] = labels, np.arange(IMAGES) // 10
        content["validation/images"], content["validation/labels"] = images[:60], labels[:60]
        content["classes"] = [b"reed", b"water", b"roof"]


def mapping(job: launcher.Job, name: str) -> dict[int, set[str]]:
    """Inodes of the files with such a name that processes of the job have mapped, by process id."""
    found: dict[int, set[str]] = {}
    for process in job.processes():
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        except OSError:  # ended meanwhile
            continue
        if files := {line.split()[4] for line in lines if name in line}:
            found[process.pid] = files
    return found


def test_two_workers_train_from_one_file_that_both_map(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    write(tmp_path / "scenes.h5")
    search = ["-m", "hpcnas", *SMALL, "--data", "arrays:scenes.h5"]
    endless = [*search, "--budget", "100000", "--run", "endless"]
    seen: list[dict[int, set[str]]] = []
    with launcher.start(one_mpi, 3, endless, cwd=tmp_path) as job:

        def both_map() -> bool:
            seen.append(mapping(job, ".hpcnas-scenes.h5-train-"))
            return len(seen[-1]) >= 2 or job.poll() is not None

        await_that(both_map, "two workers that map the images")
    (kept,) = tmp_path.glob(".hpcnas-*.npy")
    assert list(seen[-1].values()) == [{str(kept.stat().st_ino)}] * 2
    done = launcher.run(one_mpi, 3, [*search, "--run", "run"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_file.read(tmp_path / "run")
    population, facts = run.population, run.sessions[0].facts
    assert len(population.evaluated) == 6 and run.sessions[0].ranks == 3
    assert (facts.image_channels, facts.height, facts.classes) == (CHANNELS, SIDE, 3)
    assert (facts.training_images, facts.validation_images, facts.split) == (IMAGES, 60, "validation part")
    assert len(facts.mean) == CHANNELS and max(map(abs, facts.mean[3:])) < 0.1 < min(facts.mean[:3])
    assert list(replay.deviations(run.config, facts, population)) == []
