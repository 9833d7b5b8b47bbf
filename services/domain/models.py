"""Language models as users see them: limits, prices, and the sources of both."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from services.domain import Usage

# a model's name as its endpoint knows it. The database's domain `model_name` has the same pattern, behind the name of an
# endpoint and a bar for those of several endpoints
MODEL_NAME = re.compile(r"[A-Za-z0-9@][A-Za-z0-9._:/@+-]{0,199}")
_MILLION = 1_000_000


class ModelState(StrEnum):
    """The state of the local model. The app starts before the model is ready."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # the local model failed repeatedly; it is restarted only every few minutes
    # there is no local model: the endpoint is elsewhere, and its state is not monitored
    REMOTE = "remote"


class InstructionsSource(StrEnum):
    """The source of the instructions that are sent to the model."""

    CONVERSATION = "conversation"
    SPACE = "space"
    PERSON = "person"
    DEPLOYMENT = "deployment"


class LimitSource(StrEnum):
    """The sources of a limit, in order of precedence."""

    REFUSAL = "refusal"  # the endpoint refused a request and named a lower limit
    SETTING = "setting"
    ENDPOINT = "endpoint"
    LISTED = "listed"  # the price list of genai-prices
    TABLE = "table"  # the table in services/llm/known_models.py
    GUESS = "guess"


class PriceSource(StrEnum):
    """The sources of a model's prices, in order of precedence."""

    ADMIN = "admin"  # prices set on the admin page
    SETTING = "setting"
    ENDPOINT = "endpoint"
    LISTED = "listed"  # the price list of genai-prices
    LOCAL = "local"  # a free model on this machine
    UNKNOWN = "unknown"  # no source knows the prices of both input and output, so all prices are 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """Prices in micro-dollars per million tokens."""

    input_micro: int
    cached_input_micro: int
    output_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSetting:
    """The admins' settings for one model."""

    prices: ModelPrices | None = None  # None: no admin has set prices
    is_offered: bool = True


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The admins' settings for all models, in *by_name* keyed by the model's name."""

    by_name: Mapping[str, ModelSetting] = field(default_factory=dict[str, ModelSetting])
    refuses_unknown_prices: bool = False  # if false, models without a known price count as free
    # a digest of the other fields; empty if no settings are stored
    revision: str = field(default="", compare=False, repr=False)

    def of(self, name: str) -> ModelSetting:
        return self.by_name.get(name, ModelSetting())


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's limits, and its prices in micro-dollars per million tokens."""

    name: str
    context_tokens: int
    reply_tokens: int
    input_micro: int
    output_micro: int
    cached_input_micro: int
    context_source: LimitSource = LimitSource.SETTING
    reply_source: LimitSource = LimitSource.SETTING
    is_reasoning: bool = False
    price_source: PriceSource = PriceSource.SETTING

    def priced(self, prices: ModelPrices) -> "ModelInfo":
        """Return a copy of the model with *prices*, which an admin has set."""
        return replace(self, **asdict(prices), price_source=PriceSource.ADMIN)

    def cost_micro(self, usage: Usage) -> int:
        """Return the cost of *usage* in micro-dollars, rounded up; a cached token never costs more than an uncached one."""
        cached = min(usage.cached, usage.prompt)
        parts = (
            (usage.prompt - cached) * self.input_micro
            + cached * min(self.cached_input_micro, self.input_micro)
            + usage.reply * self.output_micro
        )
        return -(-parts // _MILLION)

    @property
    def is_free(self) -> bool:
        return not (self.input_micro or self.output_micro)

    @property
    def is_cache_cheap(self) -> bool:
        """True if cached tokens cost less than a third of uncached ones, or input is free."""
        return 3 * self.cached_input_micro < self.input_micro or not self.input_micro

    def affordable_reply(self, micro: int) -> int:
        """Return the number of reply tokens that *micro* micro-dollars pay for, at most `reply_tokens`."""
        if not self.output_micro:
            return self.reply_tokens
        return max(0, min(self.reply_tokens, micro * _MILLION // self.output_micro))
