"""The command `serve`: it says where it is, answers there and nowhere else, and ends when it is told to; wrong use."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import toolruns
from patience import GUARD

TOKEN = "a-token-of-these-tests"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one search in it."""
    (tmp_path / "runs").mkdir()
    toolruns.eventful(tmp_path / "runs/a")
    return tmp_path / "runs"


def started(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hpcnas.command", "serve", *map(str, arguments)]
    surroundings = {name: value for name, value in os.environ.items() if name != "HPCNAS_SERVE_TOKEN"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings | environment
    )


@pytest.fixture
def server(runs: Path) -> Iterator[subprocess.Popen[str]]:
    """One on a free port; ended in whatever way the test leaves it."""
    process = started(runs, "--port", 0, HPCNAS_SERVE_TOKEN=TOKEN)
    yield process
    process.kill()
    process.communicate()


def said(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The address, and all lines up to the one that ends what it says."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line == "Ctrl-C ends it\n":
            (address,) = [one for one in lines if one.startswith("http://")]
            return address, lines
    raise AssertionError(f"it ended: {lines}")


def opened(address: str, **headers: str) -> bytes:
    request = urllib.request.Request(address, headers={name.replace("_", "-"): text for name, text in headers.items()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
    with opener.open(request, timeout=GUARD) as answer:
        body: bytes = answer.read()
        return body


def test_the_address_that_it_prints_leads_to_the_page(server: subprocess.Popen[str], runs: Path) -> None:
    address, lines = said(server)
    assert lines == [f"1 run in {runs}", address, "Ctrl-C ends it"]
    port = re.fullmatch(rf"http://127\.0\.0\.1:(\d+)/\?token={TOKEN}", address)
    assert port is not None
    assert b"<title>hpcnas" in opened(address)
    plain = address.partition("?")[0]
    found = json.loads(opened(f"{plain}api/overview", Authorization=f"token {TOKEN}"))
    assert [run["key"] for run in found["runs"]] == ["a"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        opened(f"{plain}api/overview")
    listening = [one.laddr for one in psutil.Process(server.pid).net_connections("inet") if one.status == "LISTEN"]
    assert listening == [("127.0.0.1", int(port[1]))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(server: subprocess.Popen[str], number: signal.Signals) -> None:
    said(server)
    server.send_signal(number)
    _, errors = server.communicate(timeout=GUARD)
    assert (server.returncode, errors) == (0, "")


def test_a_new_token_each_time_and_a_path_of_a_proxy(runs: Path) -> None:
    tokens = set()
    for _ in range(2):
        process = started(runs, "--port", 0, "--base-path", "/user/ada/", "--allow-host", "portal.example.org")
        address, _ = said(process)
        assert "/user/ada/?token=" in address
        assert b"<title>hpcnas" in opened(address, Host="portal.example.org")
        tokens.add(address.rpartition("=")[2])
        process.terminate()
        process.communicate(timeout=GUARD)
    assert len(tokens) == 2 and min(map(len, tokens)) >= 32


def test_it_is_light_and_leaves_the_run_as_it_was(server: subprocess.Popen[str], runs: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (runs / "a").iterdir()}
    address, _ = said(server)
    plain = address.partition("?")[0]
    for view in ("overview", "search?run=a", "points?run=a", "machine?run=a", "individual?run=a&id=4"):
        opened(f"{plain}api/{view}", Authorization=f"token {TOKEN}")
    mapped = {Path(one.path).name for one in psutil.Process(server.pid).memory_maps()}
    assert not [name for name in mapped if "torch" in name or "matplotlib" in name or "_path" in name]
    assert psutil.Process(server.pid).memory_info().rss < 150e6
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (runs / "a").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "expected the folder of a run, or one with runs in it, got nowhere: there is none"),
        ([".", "--port", "65536"], "argument --port: expected a number from 0 to 65535, got '65536'"),
        ([".", "--port", "-1"], "argument --port: expected"),
        ([".", "--base-path", "/a b"], "argument --base-path: expected a path such as /user/ada, got '/a b'"),
        ([".", "--base-path", "/../a"], "argument --base-path: expected a path such as /user/ada"),
        ([".", "--host", "no.such.host.invalid"], "expected to serve on no.such.host.invalid, port 8765: "),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "hpcnas.command", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr.splitlines()[-1]


def test_a_taken_port_and_a_poor_token(runs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = started(runs, "--port", taken.getsockname()[1])
        _, errors = process.communicate(timeout=GUARD)
        assert process.returncode == 2
        assert re.fullmatch(r".*expected to serve on 127\.0\.0\.1, port \d+: Address already in use; .*\n", errors)
    process = started(runs, "--port", 0, HPCNAS_SERVE_TOKEN="short")
    _, errors = process.communicate(timeout=GUARD)
    assert process.returncode == 2 and "HPCNAS_SERVE_TOKEN: expected 16 to 200 letters" in errors


def test_a_run_is_shown_without_the_plugins_that_nobody_has_named(runs: Path) -> None:
    with h5py.File(runs / "a/population.h5", "r+") as file:
        text = file["configuration"][()].decode().replace("[search]\n", '[search]\nplugins = "absent"\n', 1)
        description = dict(file["configuration"].attrs)
        del file["configuration"]
        file["configuration"] = np.bytes_(text.encode())
        file["configuration"].attrs.update(description)
    process = started(runs, "--port", 0, HPCNAS_SERVE_TOKEN=TOKEN)
    address, _ = said(process)
    plain = address.partition("?")[0]
    (run,) = json.loads(opened(f"{plain}api/overview", Authorization=f"token {TOKEN}"))["runs"]
    assert (run["kind"], run["best"], run["problems"]) == ("search", 0.8125, [])
    process.terminate()
    _, errors = process.communicate(timeout=GUARD)
    assert "read without the plugins absent, which the run names" in errors
