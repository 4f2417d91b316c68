"""Measure the speed; the measuring itself is kilonova.bench."""

from __future__ import annotations


def run_words(words: list[str]) -> int:
    from importlib import import_module

    return int(import_module("kilonova.bench.main").main(words) or 0)
