"""Benchmarks that anyone can run: `python -m bench.service` and the others. See README.md here."""
