"""The average of weights, by hand."""

from __future__ import annotations

import pytest
import torch

from hpcnas.retrain.regularisation import average_in


def averages(values: list[float], decay: float) -> list[float]:
    """The averages after each value; the first one begins from something else."""
    average, found = torch.tensor([99.0]), []
    for updates, value in enumerate(values, start=1):
        average_in([average], [torch.tensor([value])], decay, updates)
        found.append(average.item())
    return found


def test_older_values_count_for_less_and_what_was_there_before_for_nothing() -> None:
    expected = [3.0, (6 + 3 / 2) / (3 / 2), (1 + 6 / 2 + 3 / 4) / (7 / 4)]
    assert averages([3.0, 6.0, 1.0], decay=0.5) == pytest.approx(expected)


def test_without_memory_it_is_the_last_value() -> None:
    assert averages([3.0, 6.0], decay=0.0) == [3.0, 6.0]


def test_all_tensors_are_averaged_and_the_values_stay() -> None:
    first, second = [torch.zeros(2, 3), torch.zeros(())], [torch.ones(2, 3), torch.tensor(5.0, requires_grad=True)]
    average_in(first, second, decay=0.5, updates=2)  # shares 1/3 and 2/3
    torch.testing.assert_close(first, [torch.full((2, 3), 2 / 3), torch.tensor(10 / 3)])
    assert second[1].item() == 5.0


def test_tensors_come_in_pairs() -> None:
    with pytest.raises(ValueError):
        average_in([torch.zeros(1)], [], 0.5, 1)


@pytest.mark.parametrize(("decay", "updates"), [(1.0, 1), (-0.1, 1), (float("nan"), 1), (0.5, 0)])
def test_a_decay_is_a_share_and_updates_are_counted_from_one(decay: float, updates: int) -> None:
    with pytest.raises(ValueError, match="expected a decay from 0 to less than 1 and updates from 1"):
        average_in([torch.zeros(1)], [torch.ones(1)], decay, updates)
