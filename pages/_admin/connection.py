"""The test of the connection to the model endpoint, a button on the tabs Health and Models."""

import streamlit as st

from pages._parts import outcomes, words
from pages._session import find_user
from services.bootstrap import UserServices
from services.domain.health import ConnectionTest
from services.domain.model_failures import ModelFailure
from services.errors import BadInput

_NO_ANSWER = (ModelFailure.UNREACHABLE, ModelFailure.SILENT, ModelFailure.DROPPED)
_KEY = "test-connection"


def draw(admin: UserServices) -> None:
    """Draw the button in the caller's row and, once it was pressed, the result; nothing if the only model is the local one."""
    if admin.offers.connection:
        st.button(
            "Test connection",
            icon=":material/network_check:",
            key=_KEY,
            type="tertiary",
            on_click=outcomes.act_at,
            args=[_KEY, _test],
        )
        outcomes.draw(_KEY)


def _test() -> str:
    tested = find_user().model_server.test()
    sentence = f"{result(tested)} Tested at {words.moment(tested.at)}."
    if tested.failure or not tested.models:
        raise BadInput(sentence)
    return sentence


def result(tested: ConnectionTest) -> str:
    """Return a sentence with the host, the port and the time that the test took."""
    host, time = tested.host, words.milliseconds(tested.ms)
    if tested.failure in _NO_ANSWER:
        return f"No answer from {host} after {time}."
    if tested.failure:
        reason = words.MODEL_FAILURES[tested.failure]
        return f"{host} answered after {time}, but without a list of models ({reason})."
    if not tested.models:
        return f"{host} answered after {time}, but lists no models."
    return f"{host} answered after {time} and lists {words.count(tested.models, 'model')}."
