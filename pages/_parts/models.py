"""Which model answers."""

from pages._parts import safe_md
from services import bootstrap
from services.embedded import ModelState


def line() -> str:
    """Which model answers, and what it is up to if it is our own."""
    name = safe_md.label(bootstrap.model_info().name)
    match bootstrap.life().model:
        case ModelState.REMOTE:
            return f"Model: {name}"
        case ModelState.STARTING:
            return "The local model is starting …"
        case ModelState.FAILED:
            return "The local model does not start: its log says why."
        case ModelState.READY:
            return (
                f"Model: {name}, small and local. It proves the path and is weak at talking: "
                "OPENAI\\_BASE\\_URL and DAYBOOK\\_MODEL name a better one."
            )
