"""Language models behind any OpenAI-compatible endpoint, and their limits and prices."""

from services.llm.model import LimitReached as LimitReached
from services.llm.model import SentAtOnce as SentAtOnce
from services.llm.model import Thought as Thought
from services.llm.offers import Models as Models
from services.llm.offers import Offer as Offer
