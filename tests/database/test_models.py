"""Prices and offers of models, as admins set them."""

import json

import pytest

from tests.database.people import NOT_ALLOWED

PRICES = {"input_micro": 3, "cached_input_micro": 1, "output_micro": 9}
KNOWN = dict.fromkeys(PRICES)  # the price that the app knows
REFUSED = '{"refuses_unknown_prices": true}'
NOTED = "select actor, detail from private.audit where action = %s order by id desc limit 1"


@pytest.fixture
def admin(world):
    return world.make_admin(world.person())


def set_model(admin, **changes):
    return admin.call("set_model", model_name="large", changes=json.dumps(changes))


def stored(world):
    return world.anon.call("model_settings")["by_name"]


def test_price_is_stored_noted_and_reset(world, admin):
    assert set_model(admin, **PRICES)["ok"]
    assert PRICES.items() <= stored(world)["large"]["prices"].items()

    assert set_model(admin, **KNOWN)["ok"]

    assert stored(world)["large"] == {"prices": None, "is_offered": True}
    actor, detail = world.admin.execute(NOTED, ["model.set"]).fetchone()
    assert (actor, detail["model"]) == (admin.id, "large")
    assert detail["output_micro"] == [9, None]


def test_price_is_whole_not_negative_and_cached_not_dearer(admin):
    dear = PRICES | {"cached_input_micro": 4}
    for wrong in ({"input_micro": 3}, PRICES | {"output_micro": -1}, dear):
        assert admin.refusal("set_model", model_name="large", changes=json.dumps(wrong))


def test_offer_keeps_the_price_and_price_the_offer(world, admin):
    set_model(admin, **PRICES)
    set_model(admin, is_offered=False)
    set_model(admin, **PRICES | {"output_micro": 11})

    large = stored(world)["large"]
    assert (large["prices"]["output_micro"], large["is_offered"]) == (11, False)


def test_rule_for_unknown_prices_is_noted_once(world, admin):
    for _ in range(2):
        assert admin.call("set_settings", changes=REFUSED)["ok"]

    assert world.anon.call("model_settings")["refuses_unknown_prices"] is True
    noted = world.admin.execute(NOTED.replace("limit 1", ""), ["settings.set"]).fetchall()
    assert noted == [(admin.id, {"refuses_unknown_prices": [False, True]})]


def test_user_sets_no_price(world):
    omar = world.person()

    assert omar.refusal("set_model", model_name="large", changes="{}") == NOT_ALLOWED
    assert omar.refusal("set_settings", changes=REFUSED) == NOT_ALLOWED
    assert stored(world) == {}


def test_settings_have_another_revision_after_each_change(world, admin):
    def revision():
        polled = admin.call("poll", conversation=None, space=None, archived=False)["settings"]
        assert world.anon.call("model_settings")["revision"] == polled
        return polled

    revisions = [revision()]
    for change in (PRICES, {"is_offered": False}):
        set_model(admin, **change)
        revisions.append(revision())
    admin.call("set_settings", changes=REFUSED)
    revisions.append(revision())

    assert len(set(revisions)) == 4
