"""What both programs let a person set about their job: where it runs, until when, and what it shows.

One section, that of a search (`search`) and that of a retraining (`retraining`) add their own settings to it. Standard
library alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.config import bounds
from hpcnas.config.settings import Section, setting


@dataclass(frozen=True)
class JobSettings(Section, section="run"):
    """Run: where and how; may differ whenever a run is continued"""

    run: str = setting(
        "hpcnas-run", "folder of the run; an existing one is continued", metavar="DIR", once=True, paths_after=""
    )
    device: str = setting("auto", "what networks train on", choices=("auto", "cuda", "cpu"), alterable=True)
    threads: int | None = setting(
        None, "CPU threads that one rank trains with (default: its share of the usable cores)", low=1,
        high=bounds.THREADS, metavar="T", alterable=True,
    )  # fmt: skip
    download: bool = setting(False, "fetch the data set if it is not there", once=True)
    progress: str = setting(
        "auto", "a live line, or plain log lines", choices=("auto", "live", "plain"), alterable=True
    )
    checkpoint_interval: float = setting(
        300.0, "seconds between checkpoints of a training", low=0.0, metavar="T", alterable=True, duration=True
    )
    walltime: float | None = setting(
        None, "seconds until this job ends, or 12:00:00, 4h, … (default: what the batch system says)", low=1.0,
        metavar="T", once=True, duration=True,
    )  # fmt: skip
    grace: float = setting(
        60.0, "seconds before the end at which everything is saved and the job leaves", low=0.0, metavar="T",
        alterable=True, duration=True,
    )  # fmt: skip
    lock_wait: float = setting(
        60.0, "seconds to wait for another job to let go of the run, before this one is refused", low=0.0, metavar="T",
        once=True, duration=True,
    )  # fmt: skip
    tensorboard: bool = setting(False, "write the curves to RUN/tensorboard, for TensorBoard", alterable=True)
    csv_log: bool = setting(False, "write the curves to RUN/metrics.csv", alterable=True)
    mlflow: str | None = setting(
        None, "send the curves to an MLflow server or database; empty: to none", metavar="URI", alterable=True
    )
