"""`python scripted_job.py …` is `python -m hpcnas …` with the scripted trainer in place of the real one, and without
much waiting before it is started again."""

from __future__ import annotations

import functools
import sys

from scripted_trainer import COMMAND

from hpcnas import __main__
from hpcnas.training import starts, trainer_process
from hpcnas.training.trainer_process import TrainerEvaluator

if __name__ == "__main__":
    starts.PAUSES = (0.01,) * len(starts.PAUSES)
    trainer_process.TrainerEvaluator = functools.partial(TrainerEvaluator, command=COMMAND)
    sys.exit(__main__.main())
