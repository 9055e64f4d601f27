"""Both stores keep the contract of stores (`hpcnas.testing.stores`)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hpcnas.config.search import SearchConfig
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.testing.stores import StoreContract


class TestMemoryStore(StoreContract):
    def create(self, config: SearchConfig) -> MemoryStore:
        return MemoryStore(config)

    def reopen(self, store: MemoryStore) -> MemoryStore:
        return store


class TestFileStore(StoreContract):
    def setup_method(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.opened: list[FileStore] = []

    def teardown_method(self) -> None:
        for store in self.opened:
            store.close()
        self.folder.cleanup()

    def create(self, config: SearchConfig) -> MemoryStore:
        self.opened.append(FileStore.create(Path(self.folder.name) / "run", config))
        return self.opened[-1]

    def reopen(self, store: MemoryStore) -> MemoryStore:
        store.close()
        self.opened.append(FileStore.open(Path(self.folder.name) / "run"))
        return self.opened[-1]
