"""Keys and records on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.bus.enrolment import (
    Directory,
    EnrolmentError,
    KeyTrust,
    create_keys,
    enrol,
    load_keys,
    revoke,
)


def member(keys: Path, name: str, role: str) -> KeyTrust:
    made = create_keys(keys, name)
    enrol(keys, made.public(name, role))
    return KeyTrust(made, Directory(keys))


def test_keys_are_drawn_once_and_private(tmp_path: Path) -> None:
    first = create_keys(tmp_path, "host-1").public("host-1", "host")
    assert create_keys(tmp_path, "host-1").public("host-1", "host") == first
    assert (tmp_path / "host-1.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "host-1.key").chmod(0o644)
    with pytest.raises(EnrolmentError, match="chmod 600"):
        load_keys(tmp_path, "host-1")


def test_the_three_keys_are_unrelated(tmp_path: Path) -> None:
    record = create_keys(tmp_path, "a").public("a", "host")
    assert len({record.sign, record.seal, record.curve}) == 3


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 256])
def test_names_stay_inside_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnrolmentError, match="not a name"):
        create_keys(tmp_path, name)


def test_only_hosts_speak_for_others_and_roles_are_known(tmp_path: Path) -> None:
    keys = create_keys(tmp_path, "x")
    with pytest.raises(EnrolmentError, match="only a host"):
        enrol(tmp_path, keys.public("x", "api", ("sim-*",)))
    with pytest.raises(EnrolmentError, match="no such role"):
        enrol(tmp_path, keys.public("x", "king"))


def test_enrolling_and_revoking_act_in_a_running_process(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    trust = member(tmp_path, "host-1", "host")
    assert directory.refresh() and directory.get("host-1")
    assert not directory.refresh()
    reader = KeyTrust(create_keys(tmp_path, "c"), directory)
    signature = trust.sign(b"body")
    found = reader.check("host-1", b"body", signature)
    assert found is not None and found.role == "host"
    assert reader.check("host-1", b"other", signature) is None
    assert reader.check("host-2", b"body", signature) is None
    revoke(tmp_path, "host-1")
    revoke(tmp_path, "host-1")
    assert directory.refresh()
    assert reader.check("host-1", b"body", signature) is None


def test_a_damaged_or_misnamed_record_enrols_nobody(tmp_path: Path) -> None:
    member(tmp_path, "good", "host")
    folder = tmp_path / "enrolled"
    (folder / "bad.json").write_text("{")
    (folder / "alias.json").write_bytes((folder / "good.json").read_bytes())
    directory = Directory(tmp_path)
    assert directory.get("good") and not directory.get("bad") and not directory.get("alias")


def test_sealed_secrets_open_once_for_the_right_one(tmp_path: Path) -> None:
    a, b = member(tmp_path, "a", "host"), member(tmp_path, "b", "host")
    sender = member(tmp_path, "c", "conductor")
    sealed = sender.seal("a", b"secret", b"context")
    assert b"secret" not in sealed and a.open(sealed, b"context") == b"secret"
    assert sender.seal("a", b"secret", b"context") != sealed
    for reader, context in ((b, b"context"), (a, b"other")):
        with pytest.raises(ValueError, match="not sealed"):
            reader.open(sealed, context)
    with pytest.raises(ValueError, match="not sealed"):
        a.open(b"short", b"context")
    with pytest.raises(ValueError, match="not enrolled"):
        sender.seal("nobody", b"", b"")
