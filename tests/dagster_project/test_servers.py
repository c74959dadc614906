"""`lwf ui` before it starts anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from servers_at_work import free_port

from dagster_project.ui.servers import serve
from lwf_assets.errors import LwfError
from lwf_assets.store.home import DEFAULT_STUDY, Home


@pytest.mark.parametrize(("listening", "host"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "::1")])
@pytest.mark.parametrize("name", ["dagster", "mlflow"])
def test_a_port_that_is_taken_is_named_and_nothing_is_started(
    name: str, listening: str, host: str, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    with socket.socket(socket.AF_INET6 if ":" in listening else socket.AF_INET) as other:
        try:
            other.bind((listening, 0))
        except OSError:
            pytest.skip(f"{listening} is no address of this machine")
        other.listen()
        ports = {"dagster": free_port(), "mlflow": free_port(), name: other.getsockname()[1]}
        with pytest.raises(LwfError, match=f"--{name}-port: {ports[name]} is in use"):
            serve(DEFAULT_STUDY, home, host, ports["dagster"], ports["mlflow"], tell=pytest.fail)
    assert not home.root.exists()


def test_the_port_of_mlflow_is_not_asked_for_where_mlflow_is_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the machine that has the team's MLflow, at the port that it has by default."""

    def past_the_ports(home: Home) -> None:
        raise LwfError("past the ports")

    monkeypatch.setattr("dagster_project.runs.instance.open_instance", past_the_ports)
    with socket.create_server(("127.0.0.1", 0)) as team:
        port = team.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(LwfError, match="past the ports"):
            serve(DEFAULT_STUDY, Home(tmp_path / "home"), "127.0.0.1", free_port(), port, tell=pytest.fail)
