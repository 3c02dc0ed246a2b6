bin := ".venv/bin"

# The tests start many hundred processes, which would all compile our modules where this variable is set.

export PYTHONDONTWRITEBYTECODE := ""

_default:
    @just --list

# An environment with everything that tests and benchmarks need.
setup:
    python3 -m venv .venv
    {{ bin }}/pip install -q -c constraints.txt -e '.[test,bench]'

# The service on 127.0.0.1:8000.
serve *args:
    {{ bin }}/tidepool serve {{ args }}

# Checks a data directory after an unclean stop.
verify *args:
    {{ bin }}/tidepool verify {{ args }}

fmt:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .
    {{ bin }}/just --fmt --unstable

# What CI runs: format, lint, types, tests. Tests also wait, so three workers share two processors; those that look at times run in pairs.
check:
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy
    {{ bin }}/mypy infra/image_test.py
    {{ bin }}/pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10 -m 'not soak and not timing'
    {{ bin }}/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 -m 'not soak and timing'

test *args:
    {{ bin }}/pytest {{ args }}

# The full sizes of the tests that `test` runs reduced: hours.
soak *args:
    {{ bin }}/pytest -m soak {{ args }}

# Against iscc-search and faiss on the same data.
bench *args:
    {{ bin }}/python -m bench.kernels
    {{ bin }}/python -m bench {{ args }}
    {{ bin }}/python -m bench.simprints

# Our own figures as the data grows to 1 million assets, with a plot.
bench-large *args:
    {{ bin }}/python -m bench --large {{ args }}

# What each switch saves: start and memory of an empty service.
bench-switches *args:
    {{ bin }}/python -m bench.switches {{ args }}

# What a machine needs for so many assets, as a table: an hour and more. `just sizing --sizes 10000` is done in a minute.
sizing *args:
    {{ bin }}/python -m bench.sizing {{ args }}

# Builds the container image with Debian's buildah and runs it once. As root, on Debian.
image-test *args:
    python3 infra/image_test.py {{ args }}
