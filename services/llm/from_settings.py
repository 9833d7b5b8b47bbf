"""The construction of `Models`, with a client for each model, from the settings of a deployment."""

import time
from collections.abc import Callable
from contextlib import suppress

from services.daemon_threads import in_thread
from services.domain.model_failures import ModelUnavailable
from services.domain.models import LimitSource, ModelInfo, ModelSettings, PriceSource
from services.llm.catalogue import known_model
from services.llm.connection import Connection
from services.llm.endpoint import Endpoint
from services.llm.model_spec import LimitRefusal, ModelSpec, listed_models, read_models
from services.llm.offers import Models, Offer
from services.llm.openai_model import OpenAIModel, connect
from services.settings import Settings

_OPENAI = "https://api.openai.com/v1"
_LOCAL = ModelInfo(
    name="SmolLM2-135M",
    context_tokens=2048,
    reply_tokens=512,
    input_micro=0,
    output_micro=0,
    cached_input_micro=0,
    context_source=LimitSource.TABLE,
    reply_source=LimitSource.TABLE,
    price_source=PriceSource.LOCAL,
)
_LEARN_SECONDS = 60.0  # seconds between look-ups of limits and prices


def local_model(
    url: str, key: str, of_admins: Callable[[], ModelSettings] = ModelSettings
) -> Models:
    """Return the models of a deployment that has only the small model on this machine."""
    return Models(Offer(_LOCAL, OpenAIModel(connect(url, key), _LOCAL.name)), settings=of_admins)


def configured_models(
    settings: Settings,
    of_admins: Callable[[], ModelSettings] = ModelSettings,
    tell: Callable[[str], object] = lambda _: None,
) -> Models:
    """Return the models that *settings* name, with the limits known without a network; a thread adds the endpoint's limits.

    *tell* is called with a line for the operator once the endpoint does not answer, and once it answers again.
    """
    url = str(settings.openai_base_url or _OPENAI)
    endpoint = Endpoint(url, tell)
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
    first, *others = settings.offered_models

    def narrow(name: str, refusal: LimitRefusal) -> None:
        models.narrow(name, refusal)

    model = OpenAIModel(connect(url, key), first, on_refusal=narrow, endpoint=endpoint)
    setting = ModelSpec(
        context_tokens=settings.context_tokens,
        reply_tokens=settings.reply_tokens,
        input_micro=settings.input_price_micro,
        output_micro=settings.output_price_micro,
    )

    def offer(name: str) -> Offer:
        info = known_model(name, base_url=url, setting=setting)
        client = model.named(name, is_reasoning=info.is_reasoning)
        return Offer(info, client, settings.assistant_prefix)

    def learn_all(document: object) -> None:
        for name in settings.offered_models:
            stated = read_models(document, name)
            info = known_model(name, base_url=url, setting=setting, endpoint=stated)
            is_news = info.is_reasoning and not models.known(name).is_reasoning
            models.learn(info, model.named(name, is_reasoning=True) if is_news else None)

    def keep_learning() -> None:
        """Look up limits and prices periodically: list prices depend on the time, and an endpoint may be down at first, or
        may list no model yet. During an outage, this also notices its end."""
        entries = list[object]()
        while True:
            if not entries or endpoint.outage:
                with suppress(ModelUnavailable):
                    entries = listed_models(model.list_models()) or entries
            learn_all(entries)
            time.sleep(_LEARN_SECONDS)

    connection = Connection(endpoint, model.list_models)
    models = Models(offer(first), tuple(map(offer, others)), of_admins, connection)
    in_thread("model-list", keep_learning)  # in a thread, so that no reply waits for the list
    return models
