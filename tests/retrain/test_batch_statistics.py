"""Batch normalisation over the images of a step, on any number of ranks, and its running statistics."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import (
    GRAPH,
    assert_close,
    building,
    made,
    recipe,
    trained,
)
from torch import Tensor, nn

from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain import regularisation
from hpcnas.retrain.batch_statistics import AcrossGpus, apart, synchronised
from hpcnas.retrain.feed import Resident
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.training.network import Network


def test_statistics_of_the_whole_step_are_those_of_one_micro_batch_with_all_images() -> None:
    _, whole = trained(1, recipe(micro_batch=16))
    _, plain = trained(1, recipe(micro_batch=16, batch_statistics="micro-batch"))
    assert_close(whole, plain)
    # the order of images and their augmentation are drawn a micro-batch: compare one step without either
    bare = {"augmentation": {"cutout": 0, "flip": False, "crop": 1.0}}
    one = SCHEME.build(SCHEME.settings(recipe(micro_batch=16, steps=1)), bare)
    four = SCHEME.build(SCHEME.settings(recipe(micro_batch=4, steps=1)), bare)
    ghost = SCHEME.build(SCHEME.settings(recipe(micro_batch=4, steps=1, batch_statistics="micro-batch")), bare)

    def after_a_step(settings: RetrainingConfig, ranks: int) -> dict[str, Tensor]:
        def work(group: ThreadGroup) -> dict[str, Tensor]:
            training = made(settings, group)
            training.run(lambda: False, lambda: False, lambda: None, lambda: None)
            return training.weights()

        return on_ranks(ranks, work)[0]

    expected = after_a_step(one, 1)
    assert_close(expected, after_a_step(four, 4))
    with pytest.raises(AssertionError):
        assert_close(expected, after_a_step(ghost, 4))


def test_running_statistics_are_the_mean_over_the_micro_batches_of_each_step() -> None:
    settings = recipe(steps=1, batch_statistics="micro-batch")

    def work(group: ThreadGroup) -> DistributedTraining:
        training = made(settings, group)
        assert training.run(lambda: False, lambda: False, lambda: None, lambda: None)
        return training

    (training,) = on_ranks(1, work)
    weights = training.weights()
    feed = Resident(settings, 0, 1, torch.device("cpu"))
    feed.begin(5, 0)
    from hpcnas import seeds

    with building, torch.random.fork_rng():
        torch.manual_seed(5)
        network = Network(GRAPH, settings.skeleton(ImageFacts(3, 8, 8, 10))).double()
    means = []
    for micro_batch in range(4):
        generator = torch.Generator().manual_seed(seeds.micro_batch_seed(5, 0, micro_batch))
        images, _ = feed.next(0, micro_batch, generator)
        images = regularisation.cutout(images, 2, generator).double()
        means.append(network.stem[0](images).mean(dim=(0, 2, 3)))  # type: ignore[index, operator]
    expected = 0.1 * torch.stack(means).mean(dim=0)
    torch.testing.assert_close(weights["stem.1.running_mean"], expected.detach())


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_over_ranks_are_exact_beside_bfloat16_and_without_weights(affine: bool) -> None:
    """Under autocast a product of matrices would have rounded them to 8 bits."""
    maps = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)).bfloat16()

    def work(group: ThreadGroup) -> tuple[Tensor, Tensor]:
        network = synchronised(nn.Sequential(nn.BatchNorm2d(3, affine=affine)), group, [2, 4], torch.device("cpu"))
        own = maps[:2] if group.rank == 0 else maps[2:]
        with torch.autocast("cpu", torch.bfloat16):
            return network(own), network[0].running_mean  # type: ignore[index]

    outputs, means = zip(*on_ranks(2, work), strict=True)
    plain = nn.BatchNorm2d(3, affine=affine, momentum=1.0)
    torch.testing.assert_close(torch.cat(outputs), plain(maps))
    for mean in means:
        torch.testing.assert_close(mean, plain.running_mean, rtol=1e-6, atol=0.0)


def test_on_gpus_torchs_own_does_it_but_for_a_rehearsal_which_each_rank_makes_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Sequential(nn.BatchNorm2d(4)))
    group = ThreadGroup(0, 2, [], [], threading.Barrier(2))
    ours = synchronised(copy.deepcopy(plain), group, [3, 3], torch.device("cuda"))
    assert isinstance(ours[1], AcrossGpus) and isinstance(ours[2][0], AcrossGpus)  # type: ignore[index]
    assert ours.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(3, 3, 5, 5)
    together: list[Tensor] = []

    def forward(part: nn.Module, maps: Tensor) -> Tensor:
        together.append(maps)
        return maps

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    with apart(ours):
        assert torch.equal(ours(images), plain(images)) and not together
    torch.testing.assert_close(ours[1].running_var, plain[1].running_var)  # type: ignore[index]
    ours(images)
    assert len(together) == 2
