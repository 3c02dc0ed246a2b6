"""The C extension; everything else is in pyproject.toml.

The extension is optional: without a compiler the package installs all the same and scans with numpy.
"""

from __future__ import annotations

from setuptools import Extension, setup

SCAN = Extension(
    "service.engine._scan",
    sources=["service/engine/_scan.c"],
    define_macros=[("Py_LIMITED_API", "0x030b0000")],
    extra_compile_args=["-O3", "-Wall", "-Wextra"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[SCAN], options={"bdist_wheel": {"py_limited_api": "cp311"}})
