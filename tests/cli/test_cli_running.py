"""Finding and stopping the process that runs a cloud; its status, log, exports and purge."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kilonova.cli import main, openstack, place, purge, running, state
from kilonova.cli.errors import CliError

HOLD = """
import signal, sys
from pathlib import Path
from kilonova.cli import running
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with running.hold(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


@contextlib.contextmanager
def cloud(folder: Path, kind: str = "mild") -> Iterator[subprocess.Popen[str]]:
    """A process that holds DIR/lock as a cloud does."""
    command = [sys.executable, "-I", "-c", HOLD, str(folder), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def test_down_ends_the_cloud_and_only_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cloud(tmp_path) as child:
        assert running.holder(tmp_path) == child.pid
        with pytest.raises(CliError, match="already runs"), running.hold(tmp_path):
            pass
        assert main.main(["down", "--dir", str(tmp_path)]) == 0
        assert child.wait(timeout=10) == 0
    assert running.holder(tmp_path) is None
    assert main.main(["down", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"Stopped the cloud in {tmp_path}", f"No cloud runs in {tmp_path}"]


def test_a_cloud_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with cloud(tmp_path, "stubborn") as child:
        assert running.stop(tmp_path, patience=0.1)
        assert child.wait(timeout=10) == -signal.SIGKILL


def test_a_stale_or_foreign_pid_file_misleads_nobody(tmp_path: Path) -> None:
    (tmp_path / place.PID).write_text(f"{os.getpid()}\n")
    assert running.holder(tmp_path) is None
    assert not running.stop(tmp_path, patience=0.1)
    with subprocess.Popen(["sleep", "60"]) as bystander, cloud(tmp_path):
        try:
            (tmp_path / place.PID).write_text(f"{bystander.pid}\n")
            with pytest.raises(CliError, match="not touched"):
                running.stop(tmp_path, patience=0.1)
            assert bystander.poll() is None
        finally:
            bystander.kill()


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthcheck" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_status_tells_running_silent_starting_and_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> tuple[int, str]:
        code = main.main(["status", "--json", "--dir", str(tmp_path)])
        return code, json.loads(capsys.readouterr().out)["state"]

    assert look() == (1, "stopped")
    with cloud(tmp_path):
        assert look() == (1, "starting")
        with HTTPServer(("127.0.0.1", 0), Healthy) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            state.write(tmp_path, url=f"http://127.0.0.1:{server.server_port}", driver="sim", started_at=1_000_000)
            assert look() == (0, "running")
            assert main.main(["status", "--dir", str(tmp_path)]) == 0
            assert "since     1970-01-01 00:00:01 UTC" in capsys.readouterr().out
            server.shutdown()
            thread.join()
        assert look() == (1, "silent")


def test_logs_shows_the_last_lines_and_follows(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = tmp_path / place.LOG
    log.write_text("".join(f"line {number} {'x' * 40}\n" for number in range(5000)))
    assert main.main(["logs", "-n", "3", "--dir", str(tmp_path)]) == 0
    assert [line.split()[1] for line in capfdbinary.readouterr().out.splitlines()] == [b"4997", b"4998", b"4999"]
    assert main.main(["logs", "-n", "9999", "--dir", str(tmp_path)]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 5000
    # Nothing runs: following ends at the end of the log.
    assert main.main(["logs", "-f", "-n", "0", "--dir", str(tmp_path)]) == 0
    assert capfdbinary.readouterr().out == b""


def test_logs_follows_a_running_cloud_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / place.LOG
    log.write_text("first\n")
    with cloud(tmp_path) as child:
        command = [sys.executable, "-I", "-m", "kilonova", "logs", "-f", "--dir", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
            try:
                assert follower.stdout is not None
                assert follower.stdout.readline() == "first\n"
                log.rename(tmp_path / "kilonova.log.1")
                log.write_text("second\n")
                assert follower.stdout.readline() == "second\n"
                child.kill()
                assert follower.wait(timeout=10) == 0
            finally:
                follower.kill()


def test_env_prints_openrc_or_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["env", "--dir", str(tmp_path)]) == 1
    assert "`kilonova up` makes one" in capsys.readouterr().err
    (tmp_path / place.OPENRC).write_text("export OS_CLOUD=kilonova\n")
    assert main.main(["env", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "export OS_CLOUD=kilonova\n"


def test_openstack_hands_only_this_cloud_to_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(openstack, "client_command", lambda: ["/client"])
    monkeypatch.setattr(os, "execve", lambda *args: called.append(args))
    monkeypatch.setenv("OS_AUTH_URL", "http://elsewhere")
    monkeypatch.setenv("OS_CLOUD", "kilonova-admin")
    with pytest.raises(CliError, match="`kilonova up` makes it"):
        openstack.run_words(["--dir", str(tmp_path), "server", "list"])
    (tmp_path / place.CLOUDS).touch()
    openstack.run_words(["--dir", str(tmp_path), "server", "list"])
    [(path, command, environment)] = called  # type: ignore[misc]
    assert (path, command) == ("/client", ["/client", "server", "list"])
    assert {name: value for name, value in environment.items() if name.startswith("OS_")} == {
        "OS_CLIENT_CONFIG_FILE": str(tmp_path / place.CLOUDS),
        "OS_CLOUD": "kilonova-admin",
    }


def test_purge_removes_ours_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cloud"
    monkeypatch.setattr(purge, "purge_guests", lambda path: [f"guests of {path.name}"])
    assert list(purge.purge_world(folder)) == [f"Nothing to purge: there is no {folder}"]
    for name in ("instances/one", "images"):
        (folder / name).mkdir(parents=True)
    for name in ("kilonova.db", "kilonova.db-wal", "clouds.yaml", "thesis.txt"):
        (folder / name).touch()
    said = list(purge.purge_world(folder))
    assert said == ["guests of cloud", f"Left in {folder} (not made by kilonova): thesis.txt"]
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    assert list(purge.purge_world(folder))[-1] == f"Removed {folder}"
    assert not folder.exists()


def test_purge_refuses_while_the_cloud_runs(tmp_path: Path) -> None:
    with cloud(tmp_path), pytest.raises(CliError, match="already runs"):
        list(purge.purge_world(tmp_path))


def test_the_default_dir_follows_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KILONOVA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    for bridges, libvirt, expected in (
        (True, True, place.SYSTEM_DIR),
        (False, True, Path("/data/kilonova")),
        (True, False, Path("/data/kilonova")),
    ):
        monkeypatch.setattr(place, "may_make_bridges", lambda answer=bridges: answer)
        monkeypatch.setattr(place, "may_use_system_libvirt", lambda answer=libvirt: answer)
        monkeypatch.setattr(place, "may_keep", lambda path: True)
        assert place.default_dir() == expected
    monkeypatch.setenv("KILONOVA_DIR", "/elsewhere")
    assert place.default_dir() == Path("/elsewhere")
