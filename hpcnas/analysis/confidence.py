"""95 % confidence intervals of means, and of the difference of two, by Student's t. The standard library alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)  # with 1, 2, … degrees of freedom
_MANY = 60  # with which it is 2.000


def t_95(freedom: float) -> float:
    """What 97.5 % of Student's t lie below, with that many degrees of freedom, one at least; of a number that is not in
    the table as of the one below it, so that an interval is rather too wide."""
    return _T_95[min(int(freedom), len(_T_95)) - 1] if freedom < _MANY else 2.0


def half_width(values: Sequence[float]) -> float:
    """Half the width of the interval of their mean; NaN of fewer than two."""
    if len(values) < 2:
        return math.nan
    return t_95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """How far the mean of `values` is above that of `others`, one at least of each, and half the width of the interval
    of that; NaN where either are fewer than two.

    B. L. Welch, *The generalization of "Student's" problem when several different population variances are involved*,
    Biometrika 34, 1947: the spreads may differ. Values and others are independent of each other."""
    apart = statistics.fmean(values) - statistics.fmean(others)
    if min(len(values), len(others)) < 2:
        return apart, math.nan
    one, other = (statistics.variance(sample) / len(sample) for sample in (values, others))
    if not one + other:
        return apart, 0.0
    freedom = (one + other) ** 2 / (one**2 / (len(values) - 1) + other**2 / (len(others) - 1))
    return apart, t_95(freedom) * math.sqrt(one + other)
