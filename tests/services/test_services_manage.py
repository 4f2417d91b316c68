"""`kilonova manage` and the services' refusals: each is one line that says what to do."""

from __future__ import annotations

import json
import socket
import sqlite3
from pathlib import Path

import pytest
import yaml

from kilonova.cli.main import main


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A cloud of its own on SQLite, enrolled, without tables."""
    path = tmp_path / "nova.conf"
    path.write_text(
        "[DEFAULT]\n"
        "transport_url = zmq://127.0.0.1:5701,127.0.0.1:5702\n"
        f"[kilonova]\ndir = {tmp_path / 'cloud'}\n"
    )
    return path


def run(service: str, config: Path, *words: str) -> int:
    return main([service, "-c", str(config), *words])


def test_a_compute_process_takes_no_database(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "[database]\nconnection = postgresql://nova:secret@db/nova\n")
    assert run("compute", config) == 1
    text = said(capsys)
    assert f"{config}:6: [database] connection" in text
    assert "secret" not in text
    assert len(text.splitlines()) == 1


def test_services_need_the_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "nova.conf"
    config.write_text(f"[kilonova]\ndir = {tmp_path}\n")
    for service in ("conductor", "compute", "api"):
        assert run(service, config, *(["--port", "0"] if service == "api" else [])) == 1
        assert "transport_url" in said(capsys)


def test_who_is_not_enrolled_is_told_what_to_do(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("conductor", config, "--name", "c1") == 1
    text = said(capsys)
    assert f"{config}:2: [DEFAULT] transport_url" in text
    assert "manage enroll" in text


def test_missing_tables_are_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enroll(config)
    (config.parent / "cloud").mkdir(exist_ok=True)
    assert run("conductor", config, "--name", "c1") == 1
    assert "manage db sync" in said(capsys)


def test_a_port_in_use_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run("api", config, "--port", str(taken.getsockname()[1])) == 1
    assert "in use" in said(capsys)


def test_beyond_loopback_needs_tls(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("placement", config, "--host", "0.0.0.0") == 1
    assert "tls_cert" in said(capsys)


def test_the_scheduler_lives_in_the_conductor(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scheduler", config) == 2
    assert "kilonova conductor" in said(capsys)


def test_a_wrong_value_is_named_with_its_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "port = many\n")
    assert run("api", config) == 1
    assert f"{config}:5: [kilonova] port" in said(capsys)
    assert main(["manage", "config", "show", "-c", str(config)]) == 1


def enroll(config: Path) -> None:
    for name, port in (("c1", 5701), ("c2", 5702)):
        words = ["--role", "conductor", "--address", f"127.0.0.1:{port}", "-c", str(config)]
        assert main(["manage", "enroll", name, *words]) == 0


def test_tables(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "db", "version"]) == 1
    assert "missing" in said(capsys)
    assert main([*manage, "cell", "list"]) == 1
    assert "db sync" in said(capsys)
    for _ in range(2):
        assert main([*manage, "db", "sync"]) == 0
    capsys.readouterr()
    assert main([*manage, "db", "version", "--json"]) == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)} == {"current"}


def test_bootstrap_makes_what_clients_and_hosts_need(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "db", "sync"]) == 0
    assert main([*manage, "bootstrap"]) == 2
    assert main([*manage, "bootstrap", "--url", "http://cloud.test:8774"]) == 0
    folder = config.parent / "cloud"
    clouds = yaml.safe_load((folder / "clouds.yaml").read_text())["clouds"]
    assert set(clouds) == {"kilonova", "kilonova-admin", "kilonova-system"}
    user = folder / "service-user.conf"
    assert user.stat().st_mode & 0o777 == 0o600
    first = user.read_text()
    assert "auth_url = http://cloud.test:8774/identity/v3" in first
    passwords = [clouds["kilonova"]["auth"]["password"], first.partition("password = ")[2].split("\n", 1)[0]]
    text = said(capsys)
    assert not any(password in text for password in passwords)
    assert main([*manage, "bootstrap", "--url", "http://cloud.test:8774"]) == 0
    assert user.read_text() == first
    assert main([*manage, "bootstrap", "--url", "http://cloud.test:8774", "--renew"]) == 0
    assert user.read_text() != first
    assert main([*manage, "token-keys", "rotate"]) == 0


def test_an_idle_cloud_has_nothing_to_complain_of(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "db", "sync"]) == 0
    for words in (["audit"], ["upgrade", "check"], ["debts", "list"], ["service", "list"], ["host", "list"],
                  ["host", "discover"], ["cell", "list"], ["config", "show", "--all"]):  # fmt: skip
        assert main([*manage, *words]) == 0, words
    assert main([*manage, "debts", "write-off", "nothing", "--reason", "gone"]) == 1
    assert "no open debt" in said(capsys)


def test_a_debt_is_written_off_on_record(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "db", "sync"]) == 0
    row = {"id": "d1", "operation_id": "o1", "step": "spawn", "holder": "host:n1", "kind": "guest",
           "resource": "s1", "payload": "{}", "state": "open", "attempts": 3, "error": "away", "created_at": 1,
           "updated_at": 1}  # fmt: skip
    with sqlite3.connect(config.parent / "cloud" / "kilonova.db") as file:
        file.execute(f"INSERT INTO debts ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})", row)
    capsys.readouterr()
    assert main([*manage, "debts", "list", "--json"]) == 0
    assert [(debt["id"], debt["holder"]) for debt in json.loads(capsys.readouterr().out)] == [("d1", "host:n1")]
    assert main([*manage, "debts", "write-off", "d1", "--reason", "the host burned down"]) == 0
    with sqlite3.connect(config.parent / "cloud" / "kilonova.db") as file:
        state, error = file.execute("SELECT state, error FROM debts").fetchone()
    assert state == "written-off"
    assert "burned down" in error


def test_an_upgrade_waits_for_stories_that_are_gone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "db", "sync"]) == 0
    with sqlite3.connect(config.parent / "cloud" / "kilonova.db") as file:
        names = [row[1] for row in file.execute("PRAGMA table_info(operations)") if row[3]]
        facts = {**dict.fromkeys(names, 0), "id": "o1", "story": "build", "version": 99, "state": "running"}
        file.execute(f"INSERT INTO operations ({', '.join(facts)}) VALUES ({', '.join('?' * len(facts))})",
                     list(facts.values()))  # fmt: skip
    assert main([*manage, "upgrade", "check"]) == 1
    assert "build version 99" in said(capsys)


def test_members_come_and_go(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enroll(config)
    manage = ["manage", "-c", str(config)]
    assert main([*manage, "enroll", "c3", "--role", "conductor"]) == 2
    assert main([*manage, "enroll", "a1", "--role", "api", "--speaks-for", "sim-*"]) == 1
    assert main([*manage, "enroll", "n1", "--role", "host", "--speaks-for", "sim-*"]) == 0
    capsys.readouterr()
    assert main([*manage, "members", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["c1", "c2", "n1"]
    keys = config.parent / "cloud" / "queue-keys"
    assert (keys / "n1.key").stat().st_mode & 0o777 == 0o600
    other = config.parent / "other.conf"
    other.write_text(config.read_text().replace("/cloud", "/other"))
    assert main(["manage", "enroll", "--record", str(keys / "enrolled" / "c1.json"), "-c", str(other)]) == 0
    assert not (config.parent / "other" / "queue-keys" / "c1.key").exists()
    assert main([*manage, "revoke", "n1", "--forget-key"]) == 0
    assert not (keys / "n1.key").exists()
    assert main([*manage, "revoke", "n1"]) == 1


def test_config_show_says_where_and_hides_secrets(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "[database]\nconnection = postgresql://nova:secret@db/nova\n")
    assert main(["manage", "config", "show", "-c", str(config)]) == 0
    text = said(capsys)
    assert f"{config}:6" in text
    assert "secret" not in text
