"""What a page from elsewhere can send to the UIs of `lwf ui`: nothing that is answered."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT
from servers_at_work import LOOPBACK, free_port, lwf_ui
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from world import new_world

from dagster_project.ui.guard import Guard

QUERY = json.dumps({"query": "{ version }"})
JSON = {"Content-Type": "application/json"}
CHANGE = "/graphql?query=mutation%20%7B%20setNuxSeen%20%7D"


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


def guarded(*names: str) -> TestClient:
    app = Starlette(
        routes=[Route("/{path:path}", _answer, methods=["GET", "POST"])], middleware=[Middleware(Guard, names=names)]
    )
    return TestClient(app, base_url="http://localhost:3000")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:3000"}, 200),
        ({"Host": "[::1]:3000"}, 200),
        ({"Host": "10.1.2.3"}, 200),  # an address is no name that somebody could turn to us
        ({"Host": socket.gethostname()}, 200),
        ({"Host": "lwf.example.org"}, 200),
        ({"Host": "LWF.example.org:443"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "localhost.rebound.example"}, 403),
        ({"Host": "127.0.0.1.rebound.example"}, 403),
        ({"Host": "localhost@rebound.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://lwf.example.org"}, 200),
        ({"Origin": "http://localhost:8888"}, 403),  # another server on this machine
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # somebody follows a link
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),  # a page loads us as a picture
    ],
)
def test_who_may_ask(headers: dict[str, str], status: int) -> None:
    client = guarded("lwf.example.org")
    assert client.get("/runs", headers=headers).status_code == status
    assert client.post("/graphql", headers=headers).status_code == status


def test_a_link_changes_nothing() -> None:
    client = guarded()
    assert client.get(CHANGE).status_code == 403
    assert client.get("/graphql").status_code == 200
    assert client.get("/runs?query=x").status_code == 200


def ask(port: int, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def web_socket(port: int, **headers: str) -> int:
    """The status that a server answers to one that is to be opened."""
    key = base64.b64encode(os.urandom(16)).decode()
    wanted = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": key, "Sec_WebSocket_Version": "13"}
    return ask(port, "GET", "/graphql", Sec_WebSocket_Protocol="graphql-ws", **wanted, **headers)[0]


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """`lwf ui` for real, called `lwf.example.org` too."""
    world = new_world(tmp_path_factory.mktemp("guard"))
    dagster, mlflow = free_port(), free_port()
    words = ["--dagster-port", str(dagster), "--mlflow-port", str(mlflow), "--name", "lwf.example.org"]
    environment = {"LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}
    with lwf_ui(words, environment, signal.SIGTERM):
        yield dagster, mlflow


@pytest.mark.slow
def test_dagster_as_lwf_ui_starts_it(ports: tuple[int, int]) -> None:
    port = ports[0]
    own = f"http://{LOOPBACK}:{port}"
    status, text = ask(port, "POST", "/graphql", QUERY, Content_Type="application/json", Origin=own)
    assert (status, "version" in text) == (200, True)
    assert ask(port, "POST", "/graphql", QUERY, Content_Type="application/json", Host="lwf.example.org")[0] == 200
    assert web_socket(port, Origin=own) == 101

    assert ask(port, "POST", "/graphql", QUERY, Content_Type="application/json", Host="rebound.example")[0] == 403
    assert ask(port, "POST", "/graphql", QUERY, Content_Type="application/json", Origin="http://a.example")[0] == 403
    assert ask(port, "POST", CHANGE, "", Content_Type="text/plain", Origin="http://a.example")[0] == 403
    assert ask(port, "GET", CHANGE, Accept="image/png")[0] == 403
    assert web_socket(port, Origin="http://a.example") == 403
    assert web_socket(port, Host="rebound.example") == 403


@pytest.fixture
def proxied(ports: tuple[int, int], tmp_path: Path) -> Iterator[tuple[int, int]]:
    """`deploy/nginx.conf` before both, on ports of its own, without its certificate."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    before = (free_port(), free_port())
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for listen, port in zip(("443", "8443"), before, strict=True):
        text = text.replace(f"listen {listen} ssl;", f"listen {LOOPBACK}:{port};")
    for usual, port in zip(("3000", "5000"), ports, strict=True):
        text = text.replace(f"http://127.0.0.1:{usual}", f"http://{LOOPBACK}:{port}")
    text = re.sub(r"^ *ssl_certificate.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("/etc/lwf/passwords", str(tmp_path / "passwords"))
    (tmp_path / "passwords").write_text("ada:{PLAIN}engine\n")
    whole = f"pid {tmp_path}/pid;\nerror_log {tmp_path}/log;\nevents {{}}\nhttp {{\naccess_log off;\n{text}}}\n"
    (tmp_path / "nginx.conf").write_text(whole)
    process = subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off; user root;"])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield before
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_behind_the_proxy_nobody_without_a_password_is_answered(proxied: tuple[int, int]) -> None:
    login = {"Authorization": "Basic " + base64.b64encode(b"ada:engine").decode(), "Host": "lwf.example.org"}
    page = {"Origin": "https://lwf.example.org", "Content_Type": "application/json"}
    dagster, mlflow = proxied
    for port, path in ((dagster, "/graphql"), (mlflow, "/api/2.0/mlflow/experiments/search?max_results=10")):
        assert ask(port, "GET", path, Host="lwf.example.org", Accept="text/html")[0] == 401
        assert ask(port, "GET", path, **{**login, "Authorization": "Basic YWRhOng="})[0] == 401
        assert ask(port, "GET", path, Accept="text/html", **login)[0] == 200
    status, text = ask(dagster, "POST", "/graphql", QUERY, **login, **page)
    assert (status, "version" in text) == (200, True)
    assert web_socket(dagster, Origin="https://lwf.example.org", **login) == 101
    assert ask(dagster, "POST", "/graphql", QUERY, **login, **{**page, "Origin": "http://a.example"})[0] == 403


@pytest.mark.slow
def test_mlflow_as_lwf_ui_starts_it(ports: tuple[int, int]) -> None:
    port, make, body = ports[1], "/api/2.0/mlflow/experiments/create", json.dumps({"name": "from elsewhere"})
    search = "/api/2.0/mlflow/experiments/search?max_results=10"
    assert ask(port, "GET", search)[0] == 200
    assert ask(port, "GET", search, Host="lwf.example.org")[0] == 200
    assert ask(port, "GET", search, Host="rebound.example")[0] == 403
    assert ask(port, "POST", make, body, Content_Type="application/json", Origin="http://a.example")[0] == 403
    assert ask(port, "POST", make, body, Content_Type="text/plain", Origin="http://a.example")[0] == 403
    assert "from elsewhere" not in ask(port, "GET", search)[1]
    body = json.dumps({"name": "from our page"})
    assert ask(port, "POST", make, body, Content_Type="application/json", Origin="https://lwf.example.org")[0] == 200
