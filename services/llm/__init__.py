"""Language models behind any OpenAI-compatible endpoint, and their limits and prices."""

from services.llm.catalogue import known_model as known_model
from services.llm.catalogue import narrow_limits as narrow_limits
from services.llm.from_settings import configured_models as configured_models
from services.llm.from_settings import local_model as local_model
from services.llm.model import LimitReached as LimitReached
from services.llm.model import Piece as Piece
from services.llm.model import Thought as Thought
from services.llm.model_spec import LimitRefusal as LimitRefusal
from services.llm.model_spec import ModelSpec as ModelSpec
from services.llm.model_spec import read_models as read_models
from services.llm.offers import Models as Models
from services.llm.offers import Offer as Offer
from services.llm.openai_model import OpenAIModel as OpenAIModel
from services.llm.openai_model import connect as connect
