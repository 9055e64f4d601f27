"""What a search would do, in words (--dry-run): the resolved configuration, network sizes, the devices of workers."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnas import seeds
from hpcnas.architecture import expansion, genotype, mutation, sizes
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.job.devices import Binding, Seat

_SAMPLE = 101  # random genotypes that the typical one is the median of


def text(
    config: SearchConfig,
    facts: DataFacts,
    seats: Sequence[Seat],
    bindings: Sequence[Binding],
    training: Sequence[str] = (),
) -> str:
    """Everything, for the terminal. `seats` of all ranks, `bindings` of the workers; `training`: lines about how the
    first of them trains."""
    schedule = ", ".join(str(round(share * config.training.steps)) for share in config.training.milestones)
    lines = [
        config.toml(),
        "# data",
        f"{facts.training_images} training and {facts.validation_images} validation images of "
        f"{facts.height}×{facts.width}, {facts.image_channels} channels, {facts.classes} classes "
        f"(fingerprint {facts.fingerprint})",
        f"learning rate divided by 10 at the steps {schedule}",
        "",
        "# networks",
        *_sizes(config, config.skeleton(facts)),
        "",
        *(("# how the first worker trains", *training, "") if training else ()),
        "# ranks",
    ]
    if len(seats) > 1:
        lines.append(f"rank 0  {seats[0].host}  controller")
    first = 1 if len(seats) > 1 else 0
    for rank, (seat, binding) in enumerate(zip(seats[first:], bindings, strict=True), start=first):
        role = "worker" if first else "controller and worker"
        lines.append(f"rank {rank}  {seat.host}  {role}, {binding.device}, {binding.threads} threads")
    return "\n".join(lines)


def _sizes(config: SearchConfig, skeleton: Skeleton) -> list[str]:
    """Parameters and FLOPs of a typical genotype of the space and of the paper's cell."""
    generator = seeds.birth_generator(config.search.seed, 0)
    drawn = []
    for _ in range(_SAMPLE):
        candidate, _ = mutation.redraw_until(
            lambda: mutation.diversified(config.space, config.search.initial_mutations, generator),
            expansion.is_valid,
        )
        drawn.append(sizes.size(expansion.expand(candidate), skeleton))
    drawn.sort(key=lambda size: size.parameters)
    paper = sizes.size(expansion.expand(genotype.named("paper")), skeleton)
    return [
        _line(f"typical genotype (median of {_SAMPLE} random ones)", drawn[_SAMPLE // 2]),
        _line("smallest of them", drawn[0]),
        _line("largest of them", drawn[-1]),
        _line("the paper's cell", paper),
    ]


def _line(name: str, size: sizes.Size) -> str:
    return f"{name}: {size.parameters:,} parameters, {size.flops / 1e6:,.1f} MFLOPs an image"
