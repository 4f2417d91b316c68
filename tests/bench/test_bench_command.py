"""The command: words, table, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kilonova.bench import main as command
from kilonova.bench.figure import Figure, quantile, shown, table
from kilonova.bench.lag import percentile


def test_a_figure_knows_its_target() -> None:
    assert Figure(name="x", value=3, below=4).met is True
    assert Figure(name="x", value=3, above=4).met is False
    assert Figure(name="x", value=3).met is None
    assert (shown(0.1234), shown(12345.6), shown(7.0)) == ("0.123", "12,346", "7")
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_a_percentile_between_bounds() -> None:
    before = [(0.001, 10.0), (0.005, 10.0), (float("inf"), 10.0)]
    after = [(0.001, 100.0), (0.005, 110.0), (float("inf"), 110.0)]
    assert percentile(before, after, 0.5) < 0.001
    assert percentile(before, after, 0.95) == pytest.approx(0.003)


def test_the_table_names_what_was_missed() -> None:
    text = table({"start": [Figure(name="CPU", value=700, unit="ms", below=600)]})
    assert "MISSED" in text and "< 600" in text


def test_names_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from kilonova.bench import placing

    async def run() -> list[Figure]:
        return [Figure(name="choose", value=1.0, unit="ms", below=2.0)]

    monkeypatch.setattr(placing, "run", run)
    target = tmp_path / "figures.json"
    assert command.main(["placing", "--json", str(target)]) == 0
    assert "1 of 1 targets met" in capsys.readouterr().out
    (told,) = json.loads(target.read_bytes())["benchmarks"]["placing"]
    assert told == {"name": "choose", "value": 1.0, "unit": "ms", "below": 2.0, "target": "< 2", "met": True}


def test_one_that_fails_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from kilonova.bench import placing

    async def run() -> list[Figure]:
        raise RuntimeError("no disk")

    monkeypatch.setattr(placing, "run", run)
    assert command.main(["placing"]) == 1
    assert "no disk" in capsys.readouterr().err


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit):
        command.main(["nonsense"])
