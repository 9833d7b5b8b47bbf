"""Language models behind any OpenAI-compatible endpoint, and their limits and prices."""

from services.llm.catalogue import known_model, narrow_limits
from services.llm.from_settings import configured_models, local_model
from services.llm.model import LimitReached, Piece, Thought
from services.llm.model_spec import LimitRefusal, ModelSpec, read_models
from services.llm.offers import Models, Offer
from services.llm.openai_model import OpenAIModel, connect

__all__ = [
    "LimitReached",
    "LimitRefusal",
    "ModelSpec",
    "Models",
    "Offer",
    "OpenAIModel",
    "Piece",
    "Thought",
    "configured_models",
    "connect",
    "known_model",
    "local_model",
    "narrow_limits",
    "read_models",
]
