"""The admin page's tab of models."""

from dataclasses import replace

import pytest

from pages._admin.models import hide_dialog
from services.domain import AccountRole
from services.domain.models import ModelPrices, ModelSetting, ModelSettings, PriceSource
from services.errors import BadInput
from services.llm import Offer
from services.llm.model_spec import LimitRefusal
from tests.fakes import LARGE, FakePerson, ScriptedModel
from tests.pages.conftest import (
    html,
    in_dialog,
    keys,
    press,
    pressed,
    refusals,
    refused,
    warnings,
)

PRICES = ModelPrices(input_micro=500_000, cached_input_micro=0, output_micro=2_000_000)
UNPRICED = replace(LARGE, input_micro=0, output_micro=0, price_source=PriceSource.UNKNOWN)


@pytest.fixture
def ruth(database):
    model = ScriptedModel()
    return FakePerson(database, model, AccountRole.ADMIN, others=(Offer(UNPRICED, model),))


@pytest.fixture
def open_tab(open_app, ruth):
    def open_tab():
        app = open_app(ruth).switch_page("pages/admin.py")
        app.query_params["tab"] = "Models"
        return app.run()

    return open_tab


def rows(app):
    (table,) = [frame.value for frame in app.dataframe if "Price from" in frame.value]
    return {row["Model"]: row for row in table.to_dict("records")}


def choose(app, name):
    return app.selectbox(key="chosen-model").set_value(name).run()


def fields(app):
    return {one.label: one for one in app.number_input}


def test_models_are_listed_with_prices_and_sources(open_tab):
    listed = rows(open_tab())

    assert (listed["scripted"]["Input ($)"], listed["scripted"]["Output ($)"]) == (1.0, 4.0)
    assert [listed[name]["Price from"] for name in ("scripted", "large")] == [
        "Server settings",
        "Unknown",
    ]


def test_price_is_set_and_reset(open_tab, ruth):
    app = press(choose(open_tab(), "large"), "Save")
    assert refused(app)["Input ($)"] == "Enter 0 to 10,000."
    fields(app)["Input ($)"].set_value(0.5)
    fields(app)["Cached input ($)"].set_value(0.0)
    fields(app)["Output ($)"].set_value(2.0)
    app = press(app, "Save")

    assert ruth.models.settings().by_name == {"large": ModelSetting(prices=PRICES)}
    assert rows(app)["large"]["Price from"] == "Set here"
    assert not refusals(app)

    app = pressed(app, "reset-price")

    assert rows(app)["large"]["Price from"] == "Unknown"


def test_price_without_a_cached_one_has_that_of_input(open_tab, ruth):
    app = choose(open_tab(), "large")
    fields(app)["Input ($)"].set_value(0.5)
    fields(app)["Output ($)"].set_value(2.0)
    assert fields(app)["Cached input ($)"].placeholder == "Same as input"

    app = press(app, "Save")

    prices = replace(PRICES, cached_input_micro=PRICES.input_micro)
    assert ruth.models.settings().by_name == {"large": ModelSetting(prices=prices)}

    fields(app)["Input ($)"].set_value(1.0)
    press(app, "Save")

    prices = replace(prices, input_micro=1_000_000, cached_input_micro=1_000_000)
    assert ruth.models.settings().by_name == {"large": ModelSetting(prices=prices)}


def test_model_is_taken_from_the_offer_and_back(open_tab, ruth):
    app = hide(choose(open_tab(), "large"), "large")
    assert rows(app)["large"]["Offered"] == "Hidden"
    assert "large is hidden from users.</p>" in html(app)
    assert [offer.info.name for offer in ruth.offers] == ["scripted"]
    assert "offer-model" not in keys(choose(app, "scripted"))
    choose(app, "large")

    assert rows(pressed(app, "offer-model"))["large"]["Offered"] == "Yes"


def hide(app, name):
    """Answer the question after a press of "Hide from users"."""
    pressed(app, "offer-model")
    return pressed(in_dialog(app, hide_dialog, name), "danger-hide-model")


def test_model_is_hidden_only_after_a_question(open_tab, ruth):
    app = pressed(choose(open_tab(), "large"), "offer-model")

    assert "large" in [text.value for text in app.text]
    assert ruth.models.settings().of("large").is_offered
    pressed(app, "cancel-deletion")
    assert ruth.models.settings().of("large").is_offered


def test_saved_price_is_no_longer_told_after_another_press(open_tab, ruth):
    app = choose(open_tab(), "large")
    for label in ("Input ($)", "Output ($)"):
        fields(app)[label].set_value(1.0)
    press(app, "Save")
    assert "Saved.</p>" in html(app)

    assert "Saved." not in html(hide(app, "large"))


@pytest.mark.parametrize("button", ["offer-model", "reset-price"])
def test_model_chosen_in_the_same_run_is_changed(open_tab, ruth, button):
    for name in ("scripted", "large"):
        ruth.models.set_price(name, PRICES)
    app = choose(open_tab(), "scripted")

    app.selectbox(key="chosen-model").set_value("large")
    pressed(app, button)
    if button == "offer-model":
        assert "large" in [text.value for text in app.text]
        return

    settings = ruth.models.settings()
    assert settings.of("scripted") == ModelSetting(prices=PRICES)
    assert settings.of("large") != ModelSetting(prices=PRICES)


def test_refused_change_of_a_model_says_why(open_tab, ruth):
    app = open_tab()
    ruth.administration.failures["set_model"] = BadInput("Offer another one first.")

    assert "Offer another one first." in html(hide(app, "scripted"))


def test_limits_lowered_by_refusals_are_shown_and_forgotten(open_tab, ruth):
    assert "refused a request" not in "".join(warnings(open_tab()))
    for limits in ({"context_tokens": 8_192}, {"context_tokens": 9_000, "reply_tokens": 1_000}):
        ruth.offers.narrow("large", LimitRefusal(**limits))
    ruth.offers.narrow("scripted", LimitRefusal(reply_tokens=100))

    app = open_tab()

    scripted, large = [told for told in warnings(app) if "refused a request" in told]
    assert "a request to scripted" in scripted
    assert scripted.endswith("this server process keeps to 100 tokens a reply instead of 400.")
    assert "keeps to 8,192 tokens of context instead of 400,000 and 1,000 tokens a" in large
    assert rows(app)["large"]["Context window"] == 8_192

    app = pressed(app, "forget-large")

    assert rows(app)["large"]["Context window"] == 400_000
    assert ruth.offers.named("large").info == replace(UNPRICED)
    assert [told for told in warnings(app) if "refused a request" in told] == [scripted]


def test_rule_for_unknown_prices_is_chosen(open_tab, ruth):
    app = open_tab()
    assert "counts as free" in "".join(warnings(app))

    app.radio[0].set_value(True).run()

    assert ruth.models.settings() == ModelSettings(refuses_unknown_prices=True)
    assert "cannot be used" in "".join(warnings(app))
