"""Contract suites for authors of plugins (PLUGINS.md): what a search relies on, as classes of tests for pytest.

A file each: `strategies`, `evaluators`, `data`, `primitives`; and `stores`, for those who write another store. Needs no
pytest, no fixtures and no files of its own.
"""
