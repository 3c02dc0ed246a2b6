"""`python -m bench` is the benchmark of the whole service."""

from bench.service import main

main()
