"""The reference server and its client in a virtual environment of their own, installed once and kept.

`TIDEPOOL_REFERENCE_VENV` names the directory; without it, it is in the user's cache directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "iscc-search", "0.3.3"

ASK = """
import json, sys
from iscc_search.remote import RemoteIndex
from iscc_search.schema import IsccQuery
url, index, query = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
print(RemoteIndex(url, index).search_assets(index, IsccQuery(**query), limit=20).model_dump_json())
"""
DELETE = """
import sys
from iscc_search.remote import RemoteIndex
url, index = sys.argv[1:]
RemoteIndex(url, index).delete_index(index)
"""


class ReferenceClient:
    """The reference client with a home directory of its own: its commands, and its classes for what no command offers."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.python, self.home = reference_python(), home
        env = {key: value for key, value in os.environ.items() if not key.startswith("ISCC_SEARCH_")}
        self.env = {**env, "HOME": str(home), "XDG_DATA_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the command prints; with an exit code that is not 0 also its errors. Another exit code fails."""
        return self._run(["-m", "iscc_search.cli", *arguments], code)

    def ask(self, url: str, index: str, query: dict[str, object]) -> dict[str, Any]:
        """A search as the client reads its answer."""
        answer: dict[str, Any] = json.loads(self._run(["-c", ASK, url, index, json.dumps(query)], 0))
        return answer

    def delete_index(self, url: str, index: str) -> None:
        self._run(["-c", DELETE, url, index], 0)

    def _run(self, arguments: list[str], code: int) -> str:
        done = subprocess.run([str(self.python), *arguments], cwd=self.home, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr


def reference_python() -> Path:
    """The interpreter that can import iscc_search. Several processes may call it at once; an install that was cut off is finished."""
    directory = Path(os.environ.get("TIDEPOOL_REFERENCE_VENV") or _default_directory())
    directory.parent.mkdir(parents=True, exist_ok=True)
    python = directory / "bin" / "python"
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists():
            venv.create(directory, with_pip=True)
        if not _installed(python):
            _install(python)
    return python


def _default_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tidepool" / f"reference-{sys.version_info.major}.{sys.version_info.minor}"


def _installed(python: Path) -> bool:
    """pip writes what a package needs before the package itself, so its version stands for all."""
    script = f"import importlib.metadata as m, sys; sys.exit(m.version({PACKAGE!r}) != {VERSION!r})"
    return subprocess.run([str(python), "-c", script], capture_output=True, check=False).returncode == 0


def _install(python: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the reference could not be installed command={command} error={done.stderr[-2000:]}")
