"""A machine of a platform: the command and the environment that its file gives, on a disk, a port and a bucket of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.infra.files import Deployment
from tests.system.server import HOST, NOT_OURS, Server

BIN = Path(sys.executable).parent


class Machine(Server):
    """One after the other, always at the same place. `variables` are those that the platform's tools or the operator set."""

    def __init__(self, deployment: Deployment, directory: Path, given: Mapping[str, str]) -> None:
        super().__init__(directory)
        self.deployment = deployment
        self.variables = dict(given)

    def start(self) -> None:
        command = [str(BIN / self.deployment.command[0]), *self.deployment.command[1:]]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory.parent, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop_as_told(self) -> int:
        """The platform's signal, and death after its grace. The exit code; negative when it was killed."""
        self.process.send_signal(signal.Signals[self.deployment.stop_signal])
        try:
            return self.process.wait(self.deployment.grace_s - self.deployment.taken_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def lose_disk(self) -> None:
        shutil.rmtree(self.directory)

    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}
        from_file = {name: value for name, value in self.deployment.environment.items() if isinstance(value, str)}
        here = {"ISCC_SEARCH_INDEX_URI": f"usearch://{self.directory}", "ISCC_SEARCH_PORT": str(self.port), "ISCC_SEARCH_HOST": HOST}
        return {**clean, **from_file, **self.variables, **here}
