"""What a retraining would do, in words: recipe, network, memory, schedule and who is bound to what (--dry-run)."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnas import canonical, counting, dataspec
from hpcnas.genotype import Genotype
from hpcnas.imagefolder import class_names
from hpcnas.jobenv import Binding, Seat
from hpcnas.large import LargeSkeleton
from hpcnas.recipe import Recipe
from hpcnas.retrainfile import Origin


def text(recipe: Recipe, genotype: Genotype, origin: Origin, seats: Sequence[Seat], bindings: Sequence[Binding]) -> str:
    """Everything, for the terminal: recipe, network, memory, schedule, ranks. Opens no image."""
    graph = canonical.expand(genotype)
    skeleton, known = expected_skeleton(recipe)
    size = counting.size(graph, skeleton)
    training = recipe.training
    if training.schedule == "cosine":
        schedule = f"falls from {training.learning_rate:g} to 0 along a cosine"
    else:
        places = ", ".join(f"{round(share * training.steps):,}" for share in training.milestones)
        schedule = f"{training.learning_rate:g}, divided by 10 after {places} steps"
    side = recipe.data.image_size if recipe.data.loading == "stream" else 0
    height, width = (side, side) if side else _crop(recipe, skeleton)
    trained = LargeSkeleton(
        skeleton.image_channels, height, width, skeleton.classes, skeleton.channels, skeleton.cells, skeleton.kind
    )
    half = training.precision == "bf16" or (training.precision == "auto" and any(each.gpu for each in bindings))
    copies = 4 if training.weight_averaging else 3  # weights, gradients, momentum; averages
    weights = copies * 4 * size.parameters
    maps = training.micro_batch * counting.kept(graph, trained).bytes(2 if half else 4)
    lines = [
        recipe.toml(),
        "# network",
        f"genotype {origin.source}, space {origin.space}",
        f"images of {skeleton.height}×{skeleton.width}, {skeleton.image_channels} channels, {skeleton.classes} classes "
        f"({known}); trained on {height}×{width}",
        f"{size.parameters:,} parameters, {size.flops / 1e9:,.2f} GFLOPs a test image",
        "",
        "# memory of a rank, estimated",
        f"{weights / 2**30:.2f} GiB weights, gradients and momentum",
        f"{maps / 2**30:.2f} GiB feature maps of a micro-batch of {training.micro_batch}, in "
        f"{'bfloat16' if half else 'float32'}",
        "",
        "# training",
        f"{training.runs} × {training.steps:,} steps of {training.batch_size} images, "
        f"{recipe.micro_batches} micro-batches of {training.micro_batch} a step",
        f"learning rate {schedule}",
        "",
        "# ranks",
    ]
    for rank, (seat, binding) in enumerate(zip(seats, bindings, strict=True)):
        mine = len(range(rank, recipe.micro_batches, len(seats)))
        share = f"{binding.threads} threads, {mine} micro-batches a step"
        lines.append(f"rank {rank}  {seat.host}  {binding.device}, {share}")
    return "\n".join(lines)


def _crop(recipe: Recipe, skeleton: LargeSkeleton) -> tuple[int, int]:
    """Height and width of training images that are resident."""
    crop = recipe.augmentation.crop
    return max(1, round(crop * skeleton.height)), max(1, round(crop * skeleton.width))


def expected_skeleton(recipe: Recipe) -> tuple[LargeSkeleton, str]:
    """The network for the data as their specification, or the names of their folders, tell; and how that is known."""
    spec = dataspec.parse(recipe.data.source)
    if recipe.data.loading == "stream":
        assert isinstance(spec, dataspec.Folder)
        side = recipe.data.image_size
        try:
            return recipe.skeleton(3, side, side, len(class_names(spec.path / "train"))), "classes as in the folder"
        except dataspec.DataError:
            return recipe.skeleton(3, side, side, 1000), "the folder is not here: as ImageNet's"
    match spec:
        case dataspec.Digits():
            return recipe.skeleton(1, 8, 8, 10), "the embedded digits"
        case dataspec.Synthetic(_, (channels, height, width)):
            return recipe.skeleton(channels, height, width, 10), "synthetic"
        case dataspec.Folder("fashion-mnist", _):
            return recipe.skeleton(1, 28, 28, 10), "Fashion-MNIST"
        case dataspec.Folder("imagefolder", path):
            try:
                classes = len(class_names(path / "train"))
            except dataspec.DataError:
                classes = 10
            return recipe.skeleton(3, 32, 32, classes), "sizes as CIFAR-10's: no image was opened"
    return recipe.skeleton(3, 32, 32, 10), "CIFAR-10"
