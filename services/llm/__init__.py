"""The language model behind any OpenAI-compatible endpoint, and what it costs."""

from services.llm.catalogue import ModelInfo, known_model
from services.llm.limits import LimitSource
from services.llm.model import LimitReached, ModelStream, Piece, Thought
from services.llm.offers import Models, Offer
from services.llm.openai_model import OpenAIModel, connect
from services.llm.stated import Refusal, Stated, read_models, read_refusal

__all__ = [
    "LimitReached",
    "LimitSource",
    "ModelInfo",
    "ModelStream",
    "Models",
    "Offer",
    "OpenAIModel",
    "Piece",
    "Refusal",
    "Stated",
    "Thought",
    "connect",
    "known_model",
    "read_models",
    "read_refusal",
]
