"""Serves a page to look at runs while they go on: searches and retrainings, at work or ended, one or a folder of them.

Open the address that it prints. It stands on this machine alone unless --host says otherwise, and shows nothing to who
lacks the token in it. From a laptop, through the login node of a cluster:

    ssh -L 8765:127.0.0.1:8765 you@cluster

and then the same address. Runs are read, never changed, and no lock is taken; Ctrl-C ends it. Behind a proxy, say
JupyterHub's, --base-path names the path by which it leads here, and --allow-host the name of its own address.

The token is a new one at each start, unless HPCNAS_SERVE_TOKEN is set.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import needs
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common
from hpcnas.job import allocator

VARIABLE = "HPCNAS_SERVE_TOKEN"
EXTRA = "pip install 'hpcnas[web]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="", json=False)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or one with runs in it; they may come later"
    )
    parser.add_argument("--port", type=_port, default=8765, metavar="N", help="default 8765; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this machine alone")
    parser.add_argument("--base-path", type=_path, default="", metavar="PATH", help="a proxy's, such as /user/ada")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name that addresses may have"
    )
    options = parser.parse_args(arguments)
    with needs.packages("the page", EXTRA):
        import uvicorn

        from hpcnas.dashboard import application
        from hpcnas.dashboard.catalogue import Catalogue
        from hpcnas.dashboard.guard import Guard
    allocator.give_memory_back()
    token = _token()
    catalogue = Catalogue(options.runs)
    served = application.Dashboard(catalogue, application.files()).application()
    hosts = [*options.allow_host, *([options.host] if options.host not in ("0.0.0.0", "::") else [])]
    configuration = uvicorn.Config(
        Guard(served, token, hosts, options.base_path),
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",
        ws="none",
        loop="asyncio",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(configuration)

    def leave(number: int, frame: object) -> None:
        """At any time, also before it serves: the server gives signals back once it has shut down."""
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    with _listening(options.host, options.port) as listening:
        _tell(options, len(catalogue.entries()), listening.getsockname()[1], token)
        server.run(sockets=[listening])
    return 0


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _path(text: str) -> str:
    """Without a slash at its end; "" for the root."""
    path = "/" + text.strip("/") if text.strip("/") else ""
    if not re.fullmatch(r"(/[A-Za-z0-9._~@%+-]+)*", path) or "/.." in path:
        raise argparse.ArgumentTypeError(f"expected a path such as /user/ada, got {text!r}")
    return path


def _token() -> str:
    """That of the environment, or a new one. Raises AnalysisError."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", given):
        raise AnalysisError(f"{VARIABLE}: expected 16 to 200 letters, digits, dots, hyphens or underscores")
    return given


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises AnalysisError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)  # before the address is printed: who opens it at once waits, and is not refused
        except OSError:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AnalysisError(f"expected to serve on {host}, port {port}: {reason}; --port 0 takes a free one") from None
    return found


def _tell(options: argparse.Namespace, count: int, port: int, token: str) -> None:
    """Where the page is, on standard output."""
    named = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    shown = f"[{named}]" if ":" in named else named
    print(f"{count} run{'' if count == 1 else 's'} in {', '.join(str(folder) for folder in options.runs)}")
    print(f"http://{shown}:{port}{options.base_path}/?token={token}")
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "warning: others can reach this address, and its token crosses the network as plain text", file=sys.stderr
        )
    print("Ctrl-C ends it", flush=True)
