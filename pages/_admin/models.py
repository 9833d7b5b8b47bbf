"""The tab of models: their prices, and which of them users may choose."""

from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import safe_md, words
from pages._parts.elements import draw_download, quiet_button, row
from pages._session import attempt, find_person
from services.bootstrap import PersonServices
from services.domain.models import (
    ModelInfo,
    ModelPrices,
    ModelSetting,
    ModelSettings,
    PriceSource,
)

_SOURCES = {
    PriceSource.ADMIN: "Set here",
    PriceSource.SETTING: "Server settings",
    PriceSource.ENDPOINT: "Provider",
    PriceSource.LISTED: "Price list",
    PriceSource.LOCAL: "Free (on this server)",
    PriceSource.UNKNOWN: "Unknown",
}
_UNKNOWN = {False: "Count them as free", True: "Refuse to use them"}
_INPUT, _CACHED, _OUTPUT = "Input ($)", "Cached input ($)", "Output ($)"
_MOST = 10_000.0  # dollars
_DASH = "\N{EN DASH}"


def table_row(info: ModelInfo, settings: ModelSettings) -> dict[str, object]:
    is_known = info.price_source is not PriceSource.UNKNOWN
    return {
        words.MODEL: info.name,
        "Offered": _setting(info, settings).is_offered,
        "Context window": info.context_tokens,
        "Longest reply": info.reply_tokens,
        _INPUT: info.input_micro / words.MILLION if is_known else None,
        _CACHED: info.cached_input_micro / words.MILLION if is_known else None,
        _OUTPUT: info.output_micro / words.MILLION if is_known else None,
        "Price from": _SOURCES[info.price_source],
    }


def draw(person: PersonServices) -> None:
    """Draw the table of models, the price and the offer of a chosen one, and the rule for unknown prices."""
    settings = person.models.settings()
    every = {offer.info.name: offer.info for offer in person.chat.choices.models.every()}
    st.caption(
        "Prices per 1M tokens. One that is set here comes before the server settings, the provider and the "
        "price list. Past messages keep what they cost."
    )
    draw_download("/export/models.csv")
    with st.container(key="models-table"):
        table = pd.DataFrame([table_row(info, settings) for info in every.values()])
        written = dict.fromkeys((_INPUT, _CACHED, _OUTPUT), _written_price)
        written |= dict.fromkeys(("Context window", "Longest reply"), words.number)
        cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
            cast(Any, table).style.format(written, na_rep=_DASH),
            hide_index=True,
            row_height=38,
            placeholder=_DASH,
            alt="Limits and prices of each model",
        )
    chosen = st.selectbox("Price of", every, key="chosen-model", width=360)
    info = every[chosen]
    _draw_prices(info, settings, list(every))
    _draw_rule(settings, list(every.values()))


def _draw_prices(info: ModelInfo, settings: ModelSettings, every: list[str]) -> None:
    with st.form("price-form"):
        with row(gap="small"):
            for label, micro in _fields(info):
                value = micro / words.MILLION
                st.number_input(
                    label, 0.0, _MOST, value, 0.01, "%.6g", key=_key(label, info), width=170
                )
        st.form_submit_button(words.SAVE, type="primary", on_click=attempt, args=[_set_price, info])
    setting = _setting(info, settings)
    with row("model-actions"):
        label = "Stop offering" if setting.is_offered else "Offer again"
        tip = "Chats that use a model which is no longer offered go on with the default model."
        icon = "visibility_off" if setting.is_offered else "visibility"
        is_offered = not setting.is_offered
        quiet_button(label, icon, "offer-model", _offer, info.name, every, is_offered, tip=tip)
        if setting.prices:
            quiet_button("Reset price", "undo", "reset-price", _reset_price, info.name)


def _draw_rule(settings: ModelSettings, every: list[ModelInfo]) -> None:
    unknown = [info.name for info in every if info.price_source is PriceSource.UNKNOWN]
    is_refused = settings.refuses_unknown_prices
    key = f"unknown-prices-{is_refused}"  # another once it is stored
    st.radio(
        "Models without a known price",
        _UNKNOWN,
        index=list(_UNKNOWN).index(is_refused),
        format_func=_UNKNOWN.__getitem__,
        key=key,
        on_change=lambda: attempt(_refuse_unknown, bool(st.session_state[key])),
    )
    if unknown:
        names = ", ".join(map(safe_md.label, unknown))
        effect = (
            "they cannot be used" if is_refused else "their use is free, and no budget limits it"
        )
        st.warning(f"No known price: {names}. Until you set one, {effect}.")


def _fields(info: ModelInfo) -> list[tuple[str, int]]:
    prices = info.prices
    return [
        (_INPUT, prices.input_micro),
        (_CACHED, prices.cached_input_micro),
        (_OUTPUT, prices.output_micro),
    ]


def _key(label: str, info: ModelInfo) -> str:
    """The key of a field; another once the price is another, which the field then shows."""
    return f"{label}-{info.name}-{hash(info.prices)}"


def _setting(info: ModelInfo, settings: ModelSettings) -> ModelSetting:
    return settings.by_name.get(info.name, ModelSetting())


def _written_price(dollars: float) -> str:
    return words.price(round(dollars * words.MILLION))


def _set_price(info: ModelInfo) -> None:
    entered = [
        round(st.session_state[_key(label, info)] * words.MILLION) for label, _ in _fields(info)
    ]
    prices = ModelPrices(
        input_micro=entered[0], cached_input_micro=entered[1], output_micro=entered[2]
    )
    find_person().models.set_price(info.name, prices)
    st.toast(f"Price of {safe_md.label(info.name)} saved.")


def _reset_price(name: str) -> None:
    find_person().models.set_price(name, None)


def _offer(name: str, every: list[str], is_offered: bool) -> None:
    find_person().models.offer(name, every, is_offered=is_offered)


def _refuse_unknown(is_refused: bool) -> None:
    find_person().models.refuse_unknown_prices(is_refused=is_refused)
