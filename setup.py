"""The C extensions; everything else is in pyproject.toml.

They are optional: without a compiler the package installs all the same, scans with numpy and decodes simprints in Python.
"""

from __future__ import annotations

from setuptools import Extension, setup


def _extension(name: str, source: str) -> Extension:
    return Extension(
        name,
        sources=[source],
        define_macros=[("Py_LIMITED_API", "0x030b0000")],
        extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread"],
        extra_link_args=["-pthread"],
        py_limited_api=True,
        optional=True,
    )


setup(
    ext_modules=[
        _extension("service.engine._scan", "service/engine/_scan.c"),
        _extension("service.api._chunks", "service/api/_chunks.c"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
