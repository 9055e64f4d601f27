"""One request to an ASGI application without any server, for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

TOKEN = "a-token-of-these-tests"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(application: Any, path: str, query: Any = (), method: str = "GET", **headers: str) -> Answer:
    """The answer; header names have underscores for hyphens, and Host is 127.0.0.1 unless it is given."""
    given = {"host": "127.0.0.1:8765"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "client": ("127.0.0.1", 5000),
        "query_string": urlencode(query, doseq=True).encode(), "server": ("127.0.0.1", 8765),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        await asyncio.Event().wait()  # the browser stays
        raise AssertionError("nothing more comes")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body)


def asked(application: Any, path: str, query: Any = (), **headers: str) -> Answer:
    """Likewise with the token."""
    return get(application, path, query, authorization=f"token {TOKEN}", **headers)
