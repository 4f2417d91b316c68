"""Micro-benchmarks, one module a subject; `kilonova bench` runs the `run()` of each."""
