"""What a retraining would do, in words: recipe, network, memory, schedule, and which rank gets which device.

Opens no image, except where only a plugin knows what it brings: those are read as they would be for training. Of
arrays only the shapes and labels are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import data_spec
from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.presumed import presumed
from hpcnas.config.retraining import RetrainingConfig, RetrainingSettings
from hpcnas.data import arrays
from hpcnas.data.class_folders import class_names, images_by_class
from hpcnas.data.datasets import load_training
from hpcnas.job.devices import Binding, Seat
from hpcnas.retrain import held_out, shares
from hpcnas.retrain.record import Origin


@dataclass(frozen=True)
class Expected:
    """The network for the data, as far as they are known, and how that is known."""

    skeleton: Skeleton
    images: int | None  # for training; None where that is not known
    known: str
    value_bytes: int = 1  # of a pixel in a channel


def text(
    recipe: RetrainingConfig, genotype: Genotype, origin: Origin, seats: Sequence[Seat], bindings: Sequence[Binding],
    cost: Sequence[str] = (),
) -> str:  # fmt: skip
    """Everything, for the terminal: recipe, network, memory, schedule, ranks; `cost`: lines about what was measured."""
    graph = expansion.expand(genotype)
    found = expected(recipe)
    images = None if found.images is None else found.images - round(recipe.data.validation_fraction * found.images)
    given, recipe = recipe.toml(), recipe if images is None else recipe.on_images(images)
    skeleton = found.skeleton
    size = sizes.size(graph, skeleton)
    training = recipe.training
    trained = recipe.trained_on(skeleton)
    numbers, width = _numbers(training, on_gpus=any(each.gpu for each in bindings))
    copies = 4 if training.weight_averaging else 3  # weights, gradients, momentum; averages
    weights = copies * max(4, width) * size.parameters
    ranks = max(1, len(seats))
    pieces = [shares.pieces(recipe, rank, ranks) for rank in range(ranks)]
    together = max(len(piece) for found in pieces for piece in found)
    memory = sizes.step_memory(graph, trained)
    whole, again, *most = (
        together * each / 2**30
        for each in (memory.bytes(width), memory.bytes_recomputed(width), memory.taken(width),
                     memory.taken_recomputed(width))
    )  # fmt: skip
    lines = [
        given,
        "# network",
        f"genotype {origin.source}, space {origin.space}",
        f"images of {skeleton.height}×{skeleton.width}, {skeleton.image_channels} channels, {skeleton.classes} classes "
        f"({found.known}); trained on {trained.height}×{trained.width}",
        *_start(recipe),
        f"{size.parameters:,} parameters, {size.flops / 1e9:,.2f} GFLOPs a test image",
        "",
        "# memory of a rank, estimated",
        f"{weights / 2**30:.2f} GiB weights, gradients and momentum",
        f"{whole:.2f} GiB feature maps of {together} images at a time, in {numbers}; "
        f"{again:.2f} GiB where they are computed again (--recompute)",
        f"a step takes up to {most[0]:.2f} and {most[1]:.2f} GiB, gradients and workspaces included",
        *_resident(recipe, found, images),
        "",
        "# training",
        f"{training.runs} × {_length(training, images)}, batch statistics of {_statistics(recipe)}",
        f"learning rate {_schedule(training, images)}",
        *_validation(recipe, found),
        "",
        "# ranks",
    ]
    for rank, (seat, binding) in enumerate(zip(seats, bindings, strict=True)):
        mine = " + ".join(str(len(piece)) for piece in pieces[rank])
        share = f"{binding.threads} threads, {mine} images a step"
        lines.append(f"rank {rank}  {seat.host}  {binding.device}, {share}")
    if cost:
        lines += ["", "# what it will cost", *cost]
    return "\n".join(lines)


def _numbers(training: RetrainingSettings, on_gpus: bool) -> tuple[str, int]:
    """The numbers of feature maps, and how many bytes one takes: bfloat16 on GPUs, unless the recipe has others."""
    if training.precision == "fp64":
        return "float64", 8
    half = training.precision == "bf16" or (training.precision == "auto" and on_gpus)
    return ("bfloat16", 2) if half else ("float32", 4)


def _start(recipe: RetrainingConfig) -> list[str]:
    """The line about what the weights begin as, unless they are drawn."""
    if recipe.network.weights is None:
        return []
    kept = "; the cells stay as they are" if recipe.training.freeze_cell else ""
    return [f"begins with the weights of {recipe.network.weights}{kept}"]


def _length(training: RetrainingSettings, images: int | None) -> str:
    """How long a training is, of so many images: in steps, and in epochs."""
    if images is None and training.epochs is not None:
        return f"{training.epochs:g} epochs in steps of {training.batch_size} images, as many as the images make"
    steps = f"{training.steps:,} steps of {training.batch_size} images"
    return steps if images is None else f"{steps} ({training.steps * training.batch_size / images:,.4g} epochs)"


def _schedule(training: RetrainingSettings, images: int | None) -> str:
    """What the learning rate does, in words."""
    known = images is not None or training.epochs is None

    def after(share: float) -> str:
        return f"{round(share * training.steps):,}" if known else f"{share:g} of the"

    if training.schedule == "cosine":
        schedule = f"falls from {training.learning_rate:g} to 0 along a cosine"
    else:
        places = ", ".join(map(after, training.milestones))
        schedule = f"{training.learning_rate:g}, divided by 10 after {places} steps"
    return f"{schedule}, rising in the first {after(training.warm_up)} steps" if training.warm_up else schedule


def _statistics(recipe: RetrainingConfig) -> str:
    """Over which images of a step batch normalisation is, in words."""
    if recipe.training.batch_statistics == "step":
        return "all of them"
    return f"{recipe.micro_batches} micro-batches of {recipe.training.micro_batch}"


def _resident(recipe: RetrainingConfig, found: Expected, images: int | None) -> list[str]:
    """The line about images that lie on the device, if they do: padded, and with their labels."""
    if recipe.data.loading == "stream":
        return []
    if images is None:
        return ["and all training images: how many there are is not known here"]
    skeleton, padding = found.skeleton, 2 * recipe.augmentation.padding
    values = (skeleton.height + padding) * (skeleton.width + padding) * skeleton.image_channels
    image = values * found.value_bytes
    return [f"{images * (image + 8) / 2**30:.2f} GiB all {images:,} training images"]


def _validation(recipe: RetrainingConfig, found: Expected) -> list[str]:
    """The line about what is validated on, if anything is. Raises DataError."""
    try:
        place = held_out.own_validation(recipe)
    except data_spec.DataError:
        if isinstance(data_spec.parse(recipe.data.source), data_spec.ArrayData):  # which are not here, as is told
            place = None
        else:
            raise
    fraction, every = recipe.data.validation_fraction, f"every {recipe.run.validate_every:,} steps"
    if place is not None:
        return [f"validated on the images of {place} {every}"]
    if not fraction:
        return []
    which = f"{fraction:g} of the training images"
    if found.images is not None:
        which = f"{round(fraction * found.images):,} of the {found.images:,} training images"
    return [f"validated on {which} {every}, which are not trained on"]


def at_hand(recipe: RetrainingConfig) -> RetrainingConfig | None:
    """The recipe as some steps of it can be made here: nothing is downloaded, and made-up images stand in for ones that
    are not here; None where these would be files."""
    spec = data_spec.parse(recipe.data.source)
    recipe = replace(recipe, run=replace(recipe.run, download=False))
    if not isinstance(spec, data_spec.DataFolder | data_spec.ArrayData) or spec.path.exists():
        return recipe
    if recipe.data.loading == "stream":
        return None
    known = presumed(spec)
    shape = f"{known.images.image_channels}x{known.images.height}x{known.images.width}"
    training = replace(recipe.training, class_weights=None)  # those made up are ten classes, as many of each
    return replace(recipe, data=replace(recipe.data, source=f"synthetic:{known.count}:{shape}"), training=training)


def expected(recipe: RetrainingConfig) -> Expected:
    """What the specification of the data tells, or the names in their folder, or the plugin that has them."""
    spec = data_spec.parse(recipe.data.source)
    if recipe.data.loading == "stream":
        assert isinstance(spec, data_spec.DataFolder)
        side = recipe.data.image_size
        try:
            classes = len(class_names(spec.path / "train"))
        except data_spec.DataError:
            return Expected(
                recipe.skeleton(ImageFacts(3, side, side, 1000)), None, "the folder is not here: as ImageNet's"
            )
        return Expected(recipe.skeleton(ImageFacts(3, side, side, classes)), None, "classes as in the folder")
    match spec:
        case data_spec.ArrayData(path, layout):
            try:
                form = arrays.form(path, layout)
            except data_spec.DataError as error:
                told = f"as CIFAR-10's, since they cannot be read: {error}"
                return Expected(recipe.skeleton(ImageFacts(3, 32, 32, 10)), None, told)
            facts = ImageFacts(form.channels, form.height, form.width, form.classes)
            return Expected(recipe.skeleton(facts), form.images, f"{form.type} of {path}", form.value_bytes)
        case data_spec.DataFolder("imagefolder", path):
            try:
                names = images_by_class(path / "train")
                images = sum(map(len, names.values()))
            except data_spec.DataError:
                return Expected(
                    recipe.skeleton(ImageFacts(3, 32, 32, 10)), None, "the folder is not here: as CIFAR-10's"
                )
            skeleton = recipe.skeleton(ImageFacts(3, 32, 32, len(names)))
            return Expected(skeleton, images, "sizes as CIFAR-10's: no image was opened")
        case data_spec.Plugged():
            try:
                data = load_training(recipe.data.source)
            except data_spec.DataError as error:
                return Expected(
                    recipe.skeleton(ImageFacts(3, 32, 32, 10)),
                    None,
                    f"as CIFAR-10's, since they cannot be read: {error}",
                )
            count, height, width, channels = data.images.pixels.shape
            facts, size = ImageFacts(channels, height, width, len(data.classes)), data.images.pixels.itemsize
            return Expected(recipe.skeleton(facts), count, f"{spec.kind} of a plugin", size)
    by_name = presumed(spec)
    return Expected(recipe.skeleton(by_name.images), by_name.count, by_name.whose)
