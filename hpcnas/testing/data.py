"""What a search relies on in data: whole arrays, the same every time, and splits of their own.

    from hpcnas.testing.data import DataContract
    from stripes import plugin

    class TestStripes(DataContract):
        plugin = plugin
        source = "stripes:40"

`source` is what `--data` would say; choose it small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hpcnas import plugins
from hpcnas.config.data_spec import DataError
from hpcnas.data import datasets
from hpcnas.data.datasets import DataSet
from hpcnas.plugins import Plugin
from hpcnas.testing.contract import TESTED, expect, loaded, stir


class DataContract:
    """Subclass it under a name that begins with Test, and set `plugin` and `source`."""

    plugin: Plugin
    source: str
    wrong: tuple[str, ...] = ()  # what `--data` may say by mistake, such as "stripes:many"

    def test_both_splits_are_whole(self) -> None:
        """Names of classes, pixels (N, H, W, C) of a known type, and labels (N,) from 0 below their number."""
        with self._read() as (training, test):
            for split in (training, test):
                expect(
                    len(set(split.classes)) == len(split.classes),
                    f"expected classes of different names, got {split.classes}",
                )

    def test_the_splits_are_of_one_kind(self) -> None:
        """A network that has learnt the one is tested on the other."""
        with self._read() as (training, test):
            expect(
                training.classes == test.classes,
                f"expected the same classes in both splits, got {training.classes} and {test.classes}",
            )
            one, other = training.images.pixels.shape[1:], test.images.pixels.shape[1:]
            expect(one == other, f"expected images of one shape in both splits, got {one} and {other}")

    def test_the_splits_are_two(self) -> None:
        """A search must not see what a network is tested on."""
        with self._read() as (training, test):
            expect(
                training.fingerprint != test.fingerprint,
                "expected other images in the split 'test' than in 'train', got the same: `read` is told which it is",
            )

    def test_it_is_the_same_every_time(self) -> None:
        """Every trainer reads it by itself, and a run is continued on the same data alone."""
        with loaded(self.plugin):
            stir(1)
            first = datasets.load_training(self.source)
            stir(2)
            again = datasets.load_training(self.source)
            expect(
                first.fingerprint == again.fingerprint,
                f"{self.source}: expected the same images, labels and classes in the same order whenever they are "
                "read, got others: seed what is drawn, and sort what is listed",
            )

    def test_what_cannot_be_is_a_data_error(self) -> None:
        """Whose sentence a person reads; anything else is told as a fault of the plugin."""
        kind = self.source.partition(":")[0]
        with loaded(self.plugin):
            expect(kind in self.plugin.data, f"expected a `source` of {list(self.plugin.data)}, got {self.source!r}")
            for source in (f"{kind}:no such data", *self.wrong):
                with contextlib.suppress(DataError):
                    whose, reader = f"plugin {TESTED!r}: `read` of {kind!r}", self.plugin.data[kind].read
                    plugins.answer(whose, reader, source.partition(":")[2], "train", False, but=(DataError,))
                    expect(source not in self.wrong, f"{source}: expected a DataError, but it was read")

    def test_the_syntax_names_the_kind(self) -> None:
        """It stands in messages, among what may be asked for."""
        for kind, reader in self.plugin.data.items():
            expect(
                reader.syntax == kind or reader.syntax.startswith(f"{kind}:"),
                f"expected {kind!r} or {kind + ':…'!r} as syntax, got {reader.syntax!r}",
            )

    @contextlib.contextmanager
    def _read(self) -> Iterator[tuple[DataSet, DataSet]]:
        """Both splits. Raises DataError, with the sentence that a search would end with."""
        with loaded(self.plugin):
            yield datasets.load_training(self.source), datasets.load_test(self.source)
