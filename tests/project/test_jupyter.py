"""`make colab` as the browser of a Colab page meets it, and the kernel of `kedro jupyter lab`."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

ROOT = Path(__file__).parents[2]
COLAB, ELSEWHERE = "https://colab.research.google.com", "https://elsewhere.example"
ALLOWED = "Access-Control-Allow-Origin"

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command(port):
    """What `make colab` runs, by this interpreter."""
    arguments = ["colab", f"PORT={port}", "ARGS=--allow-root"]
    told = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (options,) = re.findall(r"kedro (jupyter lab .*)", told.replace("\\\n", " "))
    return [sys.executable, "-m", "kedro", *shlex.split(options)]


class Server:
    """A running one; its kernels and settings lie in a folder of its own, not in the user's."""

    def __init__(self, folder):
        names = {"DATA": "data", "RUNTIME": "runtime", "CONFIG": "config"}
        own = {f"JUPYTER_{name}_DIR": str(folder / part) for name, part in names.items()}
        known = {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true"}
        self.environment = {**os.environ, **own, **known}
        self.port, self.log = free_port(), folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(self.port), cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.token = self._token()

    def _token(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(rf"http://127.0.0.1:{self.port}/lab\?token=(\w+)", self.log.read_text()):
                return found[1]
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def ask(self, path, origin, *, token=True, method="GET"):
        """Status, allowed origin and body of an answer."""
        headers = {"Origin": origin} | ({"Authorization": f"token {self.token}"} if token else {})
        data = b"{}" if method == "POST" else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers[ALLOWED], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers[ALLOWED], error.read()

    def printed(self, code):
        """What a cell of a Colab page prints, in a new kernel."""
        status, _, body = self.ask("/api/kernels", COLAB, method="POST")
        assert status == 201
        return asyncio.run(self._printed(json.loads(body)["id"], code))

    async def _printed(self, kernel, code):
        address = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?token={self.token}"
        channels = await websocket_connect(
            HTTPRequest(address, headers={"Origin": COLAB}, connect_timeout=120, request_timeout=120)
        )
        header = {"msg_id": "cell", "msg_type": "execute_request", "session": "colab", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await channels.write_message(json.dumps(message))
        text = ""
        while True:
            heard = json.loads(await channels.read_message())
            if heard["parent_header"].get("msg_id") != "cell":
                continue
            content = heard["content"]
            if heard["msg_type"] in ("stream", "error"):
                text += content.get("text", "") + "".join(content.get("traceback", []))
            if content.get("execution_state") == "idle":
                channels.close()
                return text

    def stop(self):
        """End `kedro` and the server that it started; the server ends its kernels."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("jupyter"))
    yield server
    server.stop()


def test_a_colab_page_with_the_token_may_read_answers_and_another_page_may_not(server):
    assert server.ask("/api/kernelspecs", COLAB)[:2] == (200, COLAB)
    assert server.ask("/api/kernelspecs", ELSEWHERE)[:2] == (200, COLAB)  # the browser keeps it from that page


def test_without_the_token_nobody_is_answered(server):
    assert server.ask("/api/kernelspecs", COLAB, token=False)[0] == 403
    assert server.ask("/api/kernelspecs", ELSEWHERE, token=False)[0] == 404


@pytest.mark.slow
def test_a_cell_has_catalog_and_context(server):
    code = "print('manifest' in catalog.keys(), context.project_path, context.params['seed'])"
    assert server.printed(code).splitlines()[-1] == f"True {ROOT} 17"


def test_a_taken_port_ends_the_command(server):
    given = {"cwd": ROOT, "env": server.environment, "capture_output": True, "text": True}
    ended = subprocess.run(command(server.port), timeout=120, check=False, **given)
    assert ended.returncode != 0
    assert f"port {server.port} is not available" in ended.stderr
