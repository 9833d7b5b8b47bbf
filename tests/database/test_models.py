"""Prices and offers of models, as admins set them."""

import pytest

from tests.database import servers
from tests.database.people import NOT_ALLOWED

PRICES = {"new_input_micro": 3, "new_cached_input_micro": 1, "new_output_micro": 9}
NOTED = "select actor, detail from private.audit where action = %s order by id desc limit 1"


@pytest.fixture
def admin(world):
    return world.make_admin(world.person())


def set_model(admin, name="large", *, offered=None, every="large,small", **prices):
    """Set the price, or with *offered* the offer alone."""
    choice = {"sets_price": offered is None, "offered": offered, "every_model": every}
    return admin.call("set_model", model_name=name, **choice, **prices)


def stored(world):
    settings = world.anon.call("model_settings")
    return {row["model"]: row for row in settings["models"]}


def test_price_is_stored_noted_and_reset(world, admin):
    large = {"model": "large", "input_micro": 3, "cached_input_micro": 1, "output_micro": 9}
    assert set_model(admin, **PRICES)["ok"]
    assert stored(world)["large"] == large | {"is_offered": True}

    assert set_model(admin)["ok"]

    assert stored(world)["large"]["input_micro"] is None
    actor, detail = world.admin.execute(NOTED, ["model.set"]).fetchone()
    assert (actor, detail["model"]) == (admin.id, "large")
    assert detail["output_micro"] == [9, None]


def test_price_is_given_whole_and_not_negative(admin):
    for wrong in ({"new_input_micro": 3}, PRICES | {"new_output_micro": -1}):
        given = {"sets_price": True, "offered": None, "every_model": ""}
        assert admin.refusal("set_model", model_name="large", **given, **wrong)


def test_offer_keeps_the_price_and_price_the_offer(world, admin):
    set_model(admin, **PRICES)
    set_model(admin, offered=False)
    set_model(admin, **PRICES | {"new_output_micro": 11})

    large = stored(world)["large"]
    assert (large["output_micro"], large["is_offered"]) == (11, False)


def test_last_offered_model_stays(world, admin):
    assert set_model(admin, "large", offered=False)["ok"]

    assert set_model(admin, "small", offered=False)["reason"] == "last_model"

    assert set_model(admin, "large", offered=True)["ok"]
    assert set_model(admin, "small", offered=False)["ok"]
    assert {name: row["is_offered"] for name, row in stored(world).items()} == {
        "large": True,
        "small": False,
    }


def test_two_admins_leave_a_model(world, migrated, admin):
    names = ["large", "small"]

    def switch_off(connection, number):
        return set_model(admin.by(connection), names[number], offered=False)["ok"]

    assert sorted(servers.at_once(migrated, 2, switch_off)) == [False, True]


def test_rule_for_unknown_prices_is_noted_once(world, admin):
    for _ in range(2):
        assert admin.call("refuse_unknown_prices", refused=True)["ok"]

    assert world.anon.call("model_settings")["refuses_unknown_prices"] is True
    noted = world.admin.execute(NOTED.replace("limit 1", ""), ["model.unknown_prices"]).fetchall()
    assert noted == [(admin.id, {"refused": [False, True]})]


def test_user_sets_no_price(world):
    omar = world.person()

    given = {"model_name": "large", "offered": True, "every_model": "large", **PRICES}
    assert omar.refusal("set_model", **given) == NOT_ALLOWED
    assert omar.refusal("refuse_unknown_prices", refused=True) == NOT_ALLOWED
    assert stored(world) == {}
