"""What `hpcnas serve` answers: the page's own files, and runs as JSON. What may come in is `guard`'s business.

    /  static/NAME                             the page
    api/overview                               all runs
    api/search points individuals …  ?run=KEY  a search: `_OF_SEARCH`
    api/retraining  api/log  api/compare       others

A mistake in a query is 400, a run that is not there 404, one that cannot be read now 503: each with one sentence. What
fails beyond that is 500, is told on standard error, and ends nothing. Answers carry an ETag: who has them gets 304.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import json
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import (
    comparison,
    individuals,
    log_tail,
    machine,
    motifs,
    overview,
    points,
    predictions,
    retraining,
    search_state,
    selection,
)
from hpcnas.dashboard.catalogue import Catalogue, NoSuchRun, RunEntry
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.errors import Error
from hpcnas.job import terminal
from hpcnas.storage.folder import StoreError

THREADS = 4  # that look at runs at a time
CSV_ROWS = 10_000  # at a time
Value = TypeVar("Value")
PAGE = Path(__file__).with_name("page")
PLOTTING = "plotly.min.js"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

OfSearch = Callable[[FollowedSearch, Query], dict[str, Any]]
_OF_SEARCH: dict[str, OfSearch] = {
    "search": search_state.state,
    "points": points.points,
    "individuals": points.rows,
    "individual": individuals.individual,
    "machine": machine.machine,
    "motifs": motifs.motifs,
    "predictions": predictions.predictions,
}


@dataclass(frozen=True)
class Served:
    """A file of the page, compressed."""

    content: bytes
    type: str
    tag: str


def files() -> dict[str, Served]:
    """The page's files and the plotting library's, by what follows `static/`; `index.html` among them. Raises
    AnalysisError where the library is not installed."""
    found = {
        path.relative_to(PAGE).as_posix(): path for path in sorted(PAGE.rglob("*")) if path.suffix in _TYPES
    }
    package = importlib.util.find_spec("plotly")  # whose Python is never run
    places = package.submodule_search_locations if package is not None else None
    script = next((path for place in places or () if (path := Path(place) / "package_data" / PLOTTING).is_file()), None)
    if script is None:
        raise AnalysisError("expected plotly for the page's pictures: pip install 'hpcnas[web]'")
    return {name: _served(path) for name, path in (found | {PLOTTING: script}).items()}


def _served(path: Path) -> Served:
    content = path.read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:20]
    return Served(gzip.compress(content, 6, mtime=0), f"{_TYPES[path.suffix]}; charset=utf-8", f'"{tag}"')


class Dashboard:
    """Answers requests about the runs of a catalogue."""

    def __init__(self, catalogue: Catalogue, served: Mapping[str, Served]) -> None:
        self._catalogue, self._served = catalogue, served
        self._overview = overview.Overview(catalogue)
        self._threads = anyio.CapacityLimiter(THREADS)

    async def _in_thread(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """What a function gives that takes its time: others are answered meanwhile."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)

    def application(self) -> Starlette:
        """As ASGI has it."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/static/{name:path}", self._page),
                Route("/api/individuals.csv", self._csv),
                Route("/api/{view}", self._api),
            ]
        )

    # ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _page(self, request: Request) -> Response:
        file = self._served.get(request.path_params.get("name", "index.html"))
        if file is None:
            return _error(404, "expected a file of this page")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        content = file.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
        return Response(content, media_type=file.type, headers=headers)

    # ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _api(self, request: Request) -> Response:
        try:
            body = await self._in_thread(self._encoded, request.path_params["view"], _query(request))
        except Exception as error:
            return _refused(error)
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if len(body) > 2000 and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = await self._in_thread(gzip.compress, body, 1)
        return Response(body, media_type="application/json", headers=headers)

    def _encoded(self, view: str, query: Query) -> bytes:
        """The value of a view as JSON. Raises as `_answer`."""
        return encoded(self._answer(view, query))

    def _answer(self, view: str, query: Query) -> dict[str, Any]:
        """The value of a view. Raises Error, AnalysisError for a query that is wrong."""
        if view == "overview":
            return self._overview.now()
        if view == "compare":
            return self._compared(list(dict.fromkeys(query.get("run", ()))))
        if view in ("log", "retraining"):
            entry = self._catalogue.find(selection.one(query, "run"))
            if view == "log":
                return {"key": entry.key} | log_tail.log(entry.folder, query)
            return {"key": entry.key} | retraining.retraining(self._trained(entry), query)
        if view not in _OF_SEARCH:
            raise NoSuchView(f"expected a view of this page, got {terminal.one_line(view)[:60]}")
        entry = self._catalogue.find(selection.one(query, "run"))
        if entry.trained:
            raise AnalysisError(f"expected a search, but {entry.key} is a retraining")
        with self._opened(entry.key) as run:
            return {"key": entry.key} | _OF_SEARCH[view](run, query)

    def _trained(self, entry: RunEntry) -> Found:
        """The retraining of an entry. Raises AnalysisError where it is a search, and UnreadableRun."""
        if not entry.trained:
            raise AnalysisError(f"expected a retraining, but {entry.key} is a search")
        try:
            return self._catalogue.retraining(entry)
        except AnalysisError as error:
            raise UnreadableRun(str(error)) from error

    def _compared(self, keys: list[str]) -> dict[str, Any]:
        """Searches or retrainings. A search is held only while its course is made."""
        if not 0 < len(keys) <= comparison.MOST_RUNS:
            raise AnalysisError(f"expected 1 to {comparison.MOST_RUNS} runs to compare, got {len(keys)}")
        entries = [self._catalogue.find(key) for key in keys]
        trained = [entry for entry in entries if entry.trained]
        if not trained:
            courses = []
            for entry in entries:
                with self._opened(entry.key) as run:
                    courses.append(comparison.course(entry.key, run))
            return comparison.searches(courses)
        if search := next((entry for entry in entries if not entry.trained), None):
            raise AnalysisError(
                f"expected searches or retrainings, got both: {search.key} is a search and {trained[0].key} a "
                "retraining, whose accuracies are of other networks and other images"
            )
        return comparison.retrained([(entry.key, self._trained(entry)) for entry in trained])

    def _opened(self, key: str) -> Any:
        """The search of that key, looked at. Raises NoSuchRun and UnreadableRun."""
        entry = self._catalogue.find(key)
        try:
            return self._catalogue.search(entry).looked()
        except AnalysisError as error:
            raise UnreadableRun(str(error)) from error

    async def _csv(self, request: Request) -> Response:
        """All individuals that match, a piece at a time: nothing of it is held as a whole."""
        query = _query(request)
        try:
            entry = await self._in_thread(self._catalogue.find, selection.one(query, "run"))
            lines = await self._in_thread(self._lines, entry.key, query)
        except Exception as error:
            return _refused(error)
        name = "".join(one if one.isalnum() or one in "-_" else "_" for one in entry.key)[:80].encode("ascii", "ignore")
        headers = {"Content-Disposition": f'attachment; filename="{name.decode() or "run"}-individuals.csv"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    def _lines(self, key: str, query: Query) -> Iterator[bytes]:
        """Those that match now. Each piece may be made in another thread, and between two the run is anybody's: who
        fetches them slowly keeps nobody waiting. Raises what is wrong with the query before the first line."""
        with self._opened(key) as run:
            ids = selection.chosen(run, query)

        def made() -> Iterator[bytes]:
            yield _csv_lines([points.COLUMNS])
            for start in range(0, len(ids), CSV_ROWS):
                with self._opened(key) as run:
                    part = ids[start : start + CSV_ROWS]
                    rows = points.table(run, part[part < len(run.stored.population)])  # a repair may have cut it
                yield _csv_lines([["" if cell is None else cell for cell in row.values()] for row in rows])

        return made()


class NoSuchView(AnalysisError):
    """No view has that name."""


class UnreadableRun(AnalysisError):
    """A run that is there cannot be read now: one sentence."""


def _query(request: Request) -> Query:
    return parse_qs(request.url.query, keep_blank_values=True, max_num_fields=200)


def _refused(error: Exception) -> Response:
    """The answer to what cannot be answered."""
    if isinstance(error, NoSuchRun | NoSuchView):
        return _error(404, str(error))
    if isinstance(error, UnreadableRun | StoreError):
        return _error(503, str(error))
    if isinstance(error, Error | ValueError):
        return _error(400, str(error))
    traceback.print_exception(error)
    return _error(500, f"this is a fault of hpcnas: {type(error).__name__}; hpcnas serve has printed more")


def _error(status: int, text: str) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(encoded({"error": terminal.one_line(text)}), status, headers, "application/json")


def _csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([_harmless(cell) for cell in row] for row in rows)
    return buffer.getvalue().encode()


def _harmless(cell: Any) -> Any:
    """A text as a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def encoded(value: Any) -> bytes:
    """As JSON: arrays as lists, names of enumerations, null for what JSON does not know."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value]
