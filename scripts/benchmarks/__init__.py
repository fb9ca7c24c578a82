"""The benchmarks of `scripts/benchmark.py`, one module per subject, and the tables that `report` writes.

`rounds.py` runs sides in turn; `training.py`, `memory.py`, `planning.py`, `decoding.py`, `starting.py`, `lines.py` and
`trained_models.py` measure; `markdown.py`, `provenance.py` and `report.py` make the tables.
"""
