"""Benches: what the figures in the documents come from. Each module has `run(**options) -> Report` and its goals."""
