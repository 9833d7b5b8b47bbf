"""The session of a run."""

from types import SimpleNamespace

import streamlit as st
from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx
from streamlit.testing.v1 import AppTest

from pages import _session
from services import bootstrap

DIALOG = "fragment of the dialog"


def end_of_run():
    from pages import _session

    _session.rerun_if_ended()


def test_replaced_run_leaves_the_fragments_of_the_other(monkeypatch):
    """Streamlit removes all fragments that a run has not registered when that run ends, even if another has begun."""
    are_kept = []

    def has_ended(session_id):
        context = get_script_run_ctx()
        if not are_kept:  # while the run waits, another opens a dialog
            context.fragment_storage.register(DIALOG, st.empty)
            context.script_requests.request_rerun(RerunData())
        are_kept.append(context.fragment_storage.contains(DIALOG))
        return False

    monkeypatch.setattr(_session, "_session_id", lambda: "an id")
    monkeypatch.setattr(bootstrap, "current_app", lambda: SimpleNamespace(has_ended=has_ended))

    AppTest.from_function(end_of_run).run()

    assert are_kept == [True, True]
