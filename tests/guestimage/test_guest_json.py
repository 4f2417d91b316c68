"""The guest's JSON reader (an awk program) against Python's, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.guestimage.rootfs import OWN_FILES

READER = OWN_FILES / "usr/lib/kilonova/json.awk"
AWK = ["busybox", "awk"] if shutil.which("busybox") else ["awk"]

pytestmark = pytest.mark.skipif(shutil.which(AWK[0]) is None, reason="needs some awk")

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
LEAVES = TEXT | st.integers(-(10**9), 10**9) | st.booleans() | st.none()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
)


def _read(text: bytes) -> tuple[int, list[str]]:
    done = subprocess.run(
        [*AWK, "-f", str(READER)], input=text, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return done.returncode, done.stdout.decode().split("\n")[:-1]


def _flat(path: str, value: object) -> list[str]:
    inside = path + "/" if path else ""
    match value:
        case dict():
            return [line for key, one in value.items() for line in _flat(inside + _line(key), one)]
        case list():
            return [line for index, one in enumerate(value) for line in _flat(f"{inside}{index}", one)]
        case None:
            return [path + "\t"]
        case bool():
            return [f"{path}\t{str(value).lower()}"]
        case _:
            return [f"{path}\t{_line(str(value))}"]


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x1f]", " ", text)


@settings(max_examples=60, deadline=None)
@given(document=DOCUMENTS, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_it_reads_what_python_writes(document: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert _read(text) == (0, _flat("", document))


@pytest.mark.parametrize("text", ["", "{", '{"a"}', '{"a": }', "[1,]", '"open', "{} {}", "nul", '{"a": 1', "$(reboot)"])
def test_it_refuses_what_is_not_json(text: str) -> None:
    code, lines = _read(text.encode())
    assert code == 1
    assert not any("reboot" in line for line in lines)
