"""The models tab: the prices of the models, and which models users may choose."""

from collections.abc import Mapping
from functools import partial

import streamlit as st

from pages._admin import connection, forms
from pages._parts import editing, outcomes, safe_md, tables, words
from pages._parts.elements import draw_choice, draw_download, quiet_button, row
from pages._session import ask_for, find_user, show_errors
from services.bootstrap import UserServices
from services.domain.models import (
    LimitSource,
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
_HIDE, _OFFER = "Hide from users", "offer-model"
_UNKNOWN = {False: ("Treat as free", ""), True: ("Block", "")}
_PRICES = {"input_micro": "Input", "cached_input_micro": "Cached input", "output_micro": "Output"}
_MOST = 10**10  # the highest price, in micro-dollars


def table_row(info: ModelInfo, setting: ModelSetting) -> dict[str, object]:
    is_known = info.price_source is not PriceSource.UNKNOWN
    prices = {
        f"{label} ($)": getattr(info, name) / words.MILLION if is_known else None
        for name, label in _PRICES.items()
    }
    return {
        words.MODEL: info.name,
        "Offered": "Yes" if setting.is_offered else "Hidden",
        "Context window": info.context_tokens,
        "Longest reply": info.reply_tokens,
        **prices,
        "Price from": _SOURCES[info.price_source],
    }


def draw(admin: UserServices) -> None:
    """Draw the table of models, the rule for unknown prices, and a chosen model's prices and availability."""
    settings = admin.models.settings()
    every = {offer.info.name: offer.info for offer in admin.offers.every()}
    st.caption("Prices per 1M tokens. A price set here overrides all other sources.")
    with row("models-tools"):
        draw_download("/export/models.csv")
        connection.draw(admin)
    tables.draw(
        (table_row(info, settings.of(name)) for name, info in every.items()),
        "models-table",
        "Limits and prices of each model",
        forms={f"{label} ($)": _written_price for label in _PRICES.values()},
    )
    for info in every.values():
        _draw_refused_limits(info, admin.offers.known(info.name))
    chosen = st.selectbox(words.MODEL, every, key="chosen-model", width=360)
    _draw_prices(every[chosen])
    offered = [name for name in every if settings.of(name).is_offered]
    _draw_offer(settings.of(chosen), is_only_one=offered == [chosen])
    _draw_rule(settings, every)


def _draw_refused_limits(info: ModelInfo, known: ModelInfo) -> None:
    """If refusals of the endpoint have lowered limits of the model, draw these limits and a button that forgets them."""
    limits = (
        (info.context_source, "of context", info.context_tokens, known.context_tokens),
        (info.reply_source, "a reply", info.reply_tokens, known.reply_tokens),
    )
    lowered = [
        f"{words.number(tokens)} tokens {what} instead of {words.number(before)}"
        for source, what, tokens, before in limits
        if source is LimitSource.REFUSAL
    ]
    if lowered:
        st.warning(
            f"The provider refused a request to {safe_md.label(info.name)} and named a lower limit. "
            f"Until its next start, this server process keeps to {' and '.join(lowered)}."
        )
        key, tip = f"forget-{info.name}", "In this process, until the provider refuses again."
        quiet_button("Forget this limit", "undo", key, _forget_refusals, info.name, tip=tip)


def _forget_refusals(name: str) -> None:
    find_user().model_server.forget_refusals(name)


def _written_price(dollars: float) -> str:
    return words.price(round(dollars * words.MILLION))


def _draw_prices(info: ModelInfo) -> None:
    is_known = info.price_source is not PriceSource.UNKNOWN
    empty = {"cached_input_micro": "Same as input"}
    prices = {name: getattr(info, name) if is_known else None for name in _PRICES}
    if prices["cached_input_micro"] == prices["input_micro"]:
        # the field is left empty, so that a new input price applies to cached input too
        prices["cached_input_micro"] = None
    fields = [
        forms.Number(name, label, prices[name], _MOST, empty.get(name, ""))
        for name, label in _PRICES.items()
    ]

    def save(entered: Mapping[str, int | None]) -> None:
        known = {name: value for name, value in entered.items() if value is not None}
        prices = ModelPrices(**{"cached_input_micro": known["input_micro"]} | known)
        find_user().models.set_price(info.name, prices)

    title = f"Price for {info.name}"
    forms.draw(f"price-{info.name}", title, fields, save, "Past messages keep their cost.")


def _draw_offer(setting: ModelSetting, *, is_only_one: bool) -> None:
    # the name is read on each press, because the page may not have been redrawn since another model was chosen
    def chosen() -> str:
        return st.session_state["chosen-model"]

    def hide() -> None:
        ask_for(hide_dialog, chosen())

    def offer() -> str:
        return _offer(chosen(), is_offered=True)

    def reset() -> str:
        find_user().models.set_price(chosen(), None)
        return "Price reset."

    act = outcomes.act_at
    with row("model-actions"):
        if not is_only_one and setting.is_offered:
            quiet_button(_HIDE, "visibility_off", _OFFER, hide)
        elif not is_only_one:
            quiet_button("Offer again", "visibility", _OFFER, act, _OFFER, offer)
        if setting.prices:
            quiet_button("Reset price", "undo", "reset-price", act, _OFFER, reset)
        outcomes.draw(_OFFER)


@st.dialog("Hide this model?", width="small", on_dismiss="rerun")
@show_errors()
def hide_dialog(name: str) -> None:
    """Hide the model *name* from users after a confirmation."""
    st.text(name)
    st.caption("Users can no longer choose it. Chats that use it go on with the default model.")
    if editing.is_confirmed(_HIDE, "hide-model"):
        outcomes.act_at(_OFFER, partial(_offer, name, is_offered=False))
        st.rerun()


def _offer(name: str, *, is_offered: bool) -> str:
    find_user().models.offer(name, is_offered=is_offered)
    return f"{name} is offered to users." if is_offered else f"{name} is hidden from users."


def _draw_rule(settings: ModelSettings, every: dict[str, ModelInfo]) -> None:
    is_refused = settings.refuses_unknown_prices
    draw_choice("Models without a known price", _UNKNOWN, is_refused, _refuse_unknown)
    unknown = [name for name, info in every.items() if info.price_source is PriceSource.UNKNOWN]
    if unknown:
        names = ", ".join(map(safe_md.label, unknown))
        have, it, counts = (
            ("has", "it", "counts") if len(unknown) == 1 else ("have", "they", "count")
        )
        effect = (
            f"{it} cannot be used" if is_refused else f"{it} {counts} as free and no limit applies"
        )
        st.warning(f"{names} {have} no known price. Until you set one, {effect}.")


def _refuse_unknown(is_refused: bool) -> None:
    find_user().models.refuse_unknown_prices(is_refused=is_refused)
