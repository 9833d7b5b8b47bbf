"""Offered models, according to the settings of admins."""

from dataclasses import replace

from services.domain.models import (
    LimitSource,
    ModelPrices,
    ModelSetting,
    ModelSettings,
    PriceSource,
)
from services.llm import Models, Offer
from services.llm.model_spec import LimitRefusal
from tests.fakes import INFO, LARGE, ScriptedModel

PRICES = ModelPrices(input_micro=5, cached_input_micro=1, output_micro=9)
UNPRICED = replace(LARGE, input_micro=0, output_micro=0, price_source=PriceSource.UNKNOWN)
OFF = ModelSetting(is_offered=False)


def offered(*, other=LARGE, refuses=False, **by_name):
    settings = ModelSettings(by_name, refuses_unknown_prices=refuses)
    model = ScriptedModel()
    return Models(Offer(INFO, model), (Offer(other, model),), lambda: settings)


def names(models):
    return [offer.info.name for offer in models]


def test_price_of_an_admin_wins():
    info = offered(scripted=ModelSetting(prices=PRICES)).first.info

    assert info == INFO.priced(PRICES)
    assert (info.output_micro, info.price_source) == (PRICES.output_micro, PriceSource.ADMIN)


def test_changed_price_holds_at_once():
    settings = ModelSettings()
    models = Models(Offer(INFO, ScriptedModel()), settings=lambda: settings)
    assert models.first.info.input_micro == INFO.input_micro

    settings = ModelSettings({"scripted": ModelSetting(prices=PRICES)})

    assert models.first.info == INFO.priced(PRICES)


def test_learnt_limits_leave_the_known_price():
    models = offered(scripted=ModelSetting(prices=PRICES))

    learnt = replace(models.known("scripted"), context_tokens=999)
    models.learn(learnt)

    assert models.known("scripted") == replace(INFO, context_tokens=999)
    assert models.first.info == learnt.priced(PRICES)


def test_refusal_narrows_limits_and_never_widens_them():
    models = offered()
    models.narrow("large", LimitRefusal(context_tokens=500_000, reply_tokens=5_000))
    assert models.named("large").info == LARGE

    models.narrow("large", LimitRefusal(context_tokens=800))
    models.narrow("large", LimitRefusal(context_tokens=900))

    narrow = models.named("large").info
    assert (narrow.context_tokens, narrow.context_source) == (800, LimitSource.REFUSAL)
    assert (narrow.reply_tokens, narrow.reply_source) == (800, LimitSource.REFUSAL)
    assert models.first.info == INFO


def test_refusals_outlive_new_limits_until_they_are_forgotten():
    models = offered()
    models.narrow("large", LimitRefusal(reply_tokens=800))
    models.learn(replace(LARGE, context_tokens=9_000))
    assert models.named("large").info.reply_tokens == 800

    models.forget_refusals("large")
    models.forget_refusals("scripted")

    assert models.named("large").info == replace(LARGE, context_tokens=9_000)


def test_model_that_is_switched_off_is_passed_over():
    models = offered(scripted=OFF)

    assert names(models) == ["large"]
    assert models.named("scripted") is None
    assert [offer.info.name for offer in models.every()] == ["scripted", "large"]


def test_default_stays_where_every_model_is_off():
    assert names(offered(scripted=OFF, large=OFF)) == ["scripted"]


def test_unknown_price_is_refused_where_an_admin_says_so():
    assert names(offered(other=UNPRICED)) == ["scripted", "large"]

    assert names(offered(other=UNPRICED, refuses=True)) == ["scripted"]

    priced = ModelSetting(prices=PRICES)
    assert names(offered(other=UNPRICED, refuses=True, large=priced)) == ["scripted", "large"]


def test_refused_model_that_is_alone_is_marked():
    models = offered(other=UNPRICED, refuses=True, scripted=OFF)

    assert [(offer.info.name, offer.is_refused) for offer in models] == [("large", True)]
