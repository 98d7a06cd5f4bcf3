"""`ibd serve` as a process: the address it prints, the bounds that hold on the wire, and Ctrl-C."""

import http.client
import os
import re
import signal
import socket
import sys

import pytest

from tests.command import answer_of, ibd, ibd_process, start, wait_for
from tests.page_makers import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return make_run(folder / "birds"), make_run(folder / "birds-again")


@pytest.fixture
def served(runs, tmp_path):
    """Start the page beside a server that has its port; return the process, the address and the token."""
    log = tmp_path / "log"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ("sh", "-c", f'exec "{sys.executable}" -u -m ibd.cli "$@" > {log}', "sh")
        process = start("serve", *runs, "--port", port, cwd=tmp_path, command=command)
        wait_for(lambda: "Ctrl-C" in log.read_text() if log.exists() else False, process)
    text = log.read_text()
    found = re.search(r"open (http://127\.0\.0\.1:(\d+)/\?token=(\S+))", text)
    assert f"port {port} is taken: using {found[2]}" in text
    yield process, int(found[2]), found[3]
    process.send_signal(signal.SIGINT)
    answer_of(process, timeout=20)


def connect(port, token):
    """Return a connection, and the cookie that the token is changed for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", f"/?token={token}")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303
    return connection, {"cookie": answer.headers["set-cookie"].split(";")[0]}


def test_the_page_answers_its_owner_and_stops_long_uploads_on_the_wire(served):
    process, port, token = served
    connection, cookie = connect(port, token)
    connection.request("GET", "/api/runs", headers=cookie)
    answer = connection.getresponse()
    assert b'"birds-again"' in answer.read()
    assert answer.headers["server"] is None
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        head = "POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        raw.sendall(f"{head}Cookie: {cookie['cookie']}\r\n\r\n".encode())
        sent, chunk = 0, b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        try:
            while sent < 100:
                raw.sendall(chunk)
                sent += 1
        except OSError:  # the server has hung up
            pass
        assert 20 <= sent < 60  # megabytes; what is more than 21 lies in buffers of the system
    connection.request("GET", "/", headers=cookie)
    assert connection.getresponse().status == 200
    assert process.poll() is None


def test_ctrl_c_ends_it_at_once(served, tmp_path):
    process, port, token = served
    _stays_open = connect(port, token)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0  # though a connection stays open, which would hold it up for ever
    assert "Traceback" not in process.stderr.read()
    assert (tmp_path / "log").read_text().splitlines()[-1] == "ended"


@pytest.mark.parametrize(
    ("options", "variable", "said"),
    [
        (("--host", "0.0.0.0"), None, "--host 0.0.0.0: others could reach it, so a password is needed"),
        (("--password-file", "none.txt"), None, "--password-file none.txt: cannot be read: No such file or directory"),
        ((), "short", "IBD_PAGE_PASSWORD: the password has 5 characters, at least 8 are needed"),
        (("--host", "203.0.113.9"), "long enough", "--host 203.0.113.9: cannot listen there"),
        (("--host", "no such"), "long enough", "--host no such: cannot listen there"),
        (("--port", "99999"), None, "--port 99999: a number from 0"),
    ],
)
def test_a_mistake_is_one_line(runs, tmp_path, monkeypatch, options, variable, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ibd.app.page.server.start", lambda *_: pytest.fail("it was served"))
    if variable:
        monkeypatch.setenv("IBD_PAGE_PASSWORD", variable)
    assert said in ibd("serve", runs[0], *options).mistake


def test_no_run_is_one_line(tmp_path):
    assert "no run" in ibd("serve", tmp_path / "none").mistake


def test_without_starlette_it_says_what_to_install(runs, tmp_path):
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('none', name='starlette')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    answer = ibd_process("serve", runs[0], cwd=tmp_path, PYTHONPATH=path)
    assert answer.mistake == 'ibd serve needs starlette: pip install "ibd[page]"'


def test_nothing_that_is_being_computed_holds_up_the_end(tmp_path):
    """A thread that nobody can stop, as of a slow model."""
    code = "from ibd.app.page.server import leave; Thread(target=time.sleep, args=(86400,)).start(); leave()"
    process = start("-c", f"import time; from threading import Thread; {code}", cwd=tmp_path, command=(sys.executable,))
    assert answer_of(process, timeout=80).code == 0


def test_work_that_computes_is_no_crash_at_the_end(tmp_path):
    """PyTorch aborts the process where the interpreter ends while another thread computes."""
    code = """
import torch
from ibd.app.page.long_work import Work
from ibd.app.page.server import leave

def compute(told):
    while True:
        torch.rand(300, 300) @ torch.rand(300, 300)

work = Work(compute, "computing")
work.wait(0.2)
leave()
"""
    process = start("-c", code, cwd=tmp_path, command=(sys.executable,))
    assert answer_of(process, timeout=80).code == 0
