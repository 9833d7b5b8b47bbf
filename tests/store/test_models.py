"""Prices and offers of models over the API."""

import pytest

from services.caches import CachedRead
from services.domain.models import ModelPrices, ModelSetting, ModelSettings
from services.errors import AdminsOnly
from services.store.supabase.model_settings import ModelAdministration, read_model_settings

PRICED = ModelSetting(
    prices=ModelPrices(input_micro=3, cached_input_micro=0, output_micro=9), is_offered=False
)


@pytest.fixture
def models(maya, sessions, stack):
    yield ModelAdministration(maya.calls, CachedRead(lambda: read_model_settings(sessions.server)))
    with stack.connect() as database:
        database.execute("delete from private.model_settings where true")
        database.execute("update private.settings set refuses_unknown_prices = false where id")


@pytest.fixture
def as_admin(maya, stack):
    with stack.connect() as database:
        promotion = "update private.roles set role = 'admin' where user_id = %s"
        database.execute(promotion, [maya.user_id])


def test_changed_models_are_followed_at_once(models, as_admin):
    assert models.settings() == ModelSettings()

    models.set_price("large", PRICED.prices)
    models.offer("large", is_offered=False)
    models.refuse_unknown_prices(is_refused=True)

    assert models.settings() == ModelSettings({"large": PRICED}, refuses_unknown_prices=True)


def test_user_is_refused_a_change_of_models(models):
    with pytest.raises(AdminsOnly):
        models.set_price("large", PRICED.prices)
    with pytest.raises(AdminsOnly):
        models.refuse_unknown_prices(is_refused=True)
    assert models.settings() == ModelSettings()
