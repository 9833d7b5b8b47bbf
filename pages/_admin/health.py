"""The health tab: failed sign-ins, the database, the latest model calls, and versions."""

from collections.abc import Callable
from datetime import datetime

import streamlit as st

from pages._admin import connection
from pages._parts import words
from pages._parts.elements import GridRow, draw_grid, draw_metrics, row
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.health import FailedCall, SignInFailure, UnsentReason
from services.domain.models import ModelState

# a larger clock difference is shown as a warning, because a server proof is valid for only a minute
_SKEW_SECONDS = 5.0
_MODEL = {
    ModelState.STARTING: "starting",
    ModelState.READY: "ready",
    ModelState.FAILED: "failing; retrying every few minutes",
    ModelState.REMOTE: "at a provider",
}
_FAILED_SIGN_INS = {
    SignInFailure.CREDENTIALS: "Accounts that could not be opened: {}. `python -m services.operate check` names them.",
    SignInFailure.RECOGNITION: (
        "Right passwords that Supabase Auth refused: {}. The server's log names the accounts, and "
        "`python -m services.operate repair-sign-in EMAIL` repairs one."
    ),
    SignInFailure.CONFIRMATION: "Confirmation emails that Supabase Auth did not send: {}.",
}
_FAILED_CALLS = ("Model", "Reason", "Status", "Code")
_SMTP = "“Authentication, Emails, SMTP Settings” of the Supabase project"
_UNSENT = {
    UnsentReason.SERVER: (
        f"The last one: its mail server refused it or did not answer. Check {_SMTP}; the project's Auth logs have its answer."
    ),
    UnsentReason.LIMIT: (
        "The last one: its limit of emails or sign-ups was reached. Raise it under “Authentication, Rate Limits” of the Supabase project."
    ),
    UnsentReason.TEAM_ONLY: (
        f"The last one: Supabase's own mail server sends to the project's team only. Enter yours under {_SMTP}."
    ),
    UnsentReason.CLOSED: (
        "The last one: Supabase Auth accepts no sign-ups. Allow them under “Authentication, Sign In / Providers”."
    ),
    UnsentReason.OTHER: (
        "The last one: it did not answer, or refused. The project's Auth logs say more."
    ),
}
_CONFIRMED_ELSEWHERE = "Supabase Auth confirms addresses itself, so Daybook sends no codes to new users. The tab Sign-ups says how to change that."
_NEWER = (
    "A newer version of Daybook has changed the database. Chats that it continues may be read-only here, and accounts with "
    "roles that it added cannot sign in: update Daybook."
)
_LEFT_OUT = "{} cannot sign in. `python -m services.operate check` lists them; docs/accounts.md says what helps."


def draw(admin: UserServices) -> None:
    """Draw the current state of each part of Daybook, and a button that repeats the checks."""
    app = bootstrap.current_app()
    calls, server = app.recent_calls.summary(), app.health
    model_server = admin.model_server
    _draw_part("Daybook", {"Version": server.version, "Store": server.store}, {})
    _draw_failed_sign_ins()
    _draw_part(
        "Models",
        {
            "Model server": (
                "on this machine" if model_server.is_on_this_machine else _MODEL[server.model]
            ),
            "Last error": _failure(
                calls.last_failure and words.MODEL_FAILURES[calls.last_failure],
                calls.last_failed_at,
            ),
        },
        {
            "Recent calls": words.number(calls.calls),
            "Failed calls": words.number(calls.failed),
        }
        | _of_time("Time to first token (median)", calls.first_token_ms, words.seconds),
    )
    if failures := model_server.failures:
        with st.expander(f"Last failed calls ({len(failures)})", key="failed-calls"):
            draw_grid("Time", _FAILED_CALLS, map(_failed_call, failures))
    if model_server.outage:
        st.warning(model_server.outage)
    with row("connection-row"):
        connection.draw(admin)
    if app.mailer:
        mail = app.mailer.health()
        _draw_part(
            "Email",
            {"Last failed attempt": _failure(mail.last_failure, mail.last_failed_at)},
            {
                "Last hour": f"{words.number(mail.last_hour)} of {words.number(mail.at_most)}",
                "Reserved for known devices": words.number(mail.for_known),
                "Waiting": words.number(mail.waiting),
            },
        )
        if admin.sign_ups.is_confirmed_elsewhere():
            st.warning(_CONFIRMED_ELSEWHERE)
    # a press reruns the page, which checks again
    st.button("Check again", icon=":material/refresh:", key="check-again")
    # last, because this raises StoreUnavailable while the database is unreachable
    _draw_database(admin)


def _draw_database(admin: UserServices) -> None:
    is_alone, database = bootstrap.current_app().is_alone, admin.administration.health()
    can = database.abilities
    isolation = "the database and keys" if can.isolates_users else "the app and keys"
    texts = {name: text for name, text in database.figures.items() if isinstance(text, str)}
    _draw_part(
        "Database",
        {"App processes": "several are allowed" if can.takes_several_processes else "one at a time"}
        | ({} if is_alone else {"Users are kept apart by": isolation})
        | texts,
        {"Database": words.milliseconds(database.database_ms)}
        | _of_time("API and network", database.api_ms, words.milliseconds)
        | {"Clock difference": _difference(database.clock_skew_seconds)}
        | {
            name: words.moment(figure) if isinstance(figure, datetime) else words.number(figure)
            for name, figure in database.figures.items()
            if not isinstance(figure, str)
        },
    )
    if database.is_newer:
        st.warning(_NEWER)
    if not is_alone and (left_out := admin.left_out()):
        st.warning(_LEFT_OUT.format(words.count(left_out, "account")))
    if abs(database.clock_skew_seconds) > _SKEW_SECONDS:
        st.warning("The clocks differ: at a minute, the database refuses this server. Set them.")


def _draw_failed_sign_ins() -> None:
    calls = bootstrap.current_app().recent_calls
    for failure, times in calls.failed_sign_ins().items():
        count = f"{words.number(len(times))} since the start, the last at {words.moment(times[-1])}"
        sentence = _FAILED_SIGN_INS[failure].format(count)
        if failure is SignInFailure.CONFIRMATION and calls.unsent_reason:
            sentence += f" {_UNSENT[calls.unsent_reason]}"
        st.warning(sentence)


def _failed_call(call: FailedCall) -> GridRow:
    reason = words.MODEL_FAILURES[call.failure]
    return GridRow(words.moment(call.at), (call.model, reason, str(call.status or ""), call.code))


def _difference(seconds: float) -> str:
    """Format a clock difference: `+1.2 s`, `0.0 s`."""
    return f"{seconds:+.1f} s" if abs(seconds) >= 0.05 else "0.0 s"


def _of_time(label: str, ms: int | None, form: Callable[[int], str]) -> dict[str, str]:
    return {} if ms is None else {label: form(ms)}


def _draw_part(title: str, texts: dict[str, str], figures: dict[str, str]) -> None:
    """Draw *texts* as lines, and *figures* in large type below them."""
    st.header(title, anchor=False)
    st.text("\n".join(f"{label}: {text}" for label, text in texts.items()))
    if figures:
        draw_metrics(figures)


def _failure(name: str | None, at: datetime | None) -> str:
    return f"{name}, {words.moment(at)}" if at else "none"
