"""The usage page: what a user has spent against the limits, by day and model, by chat, and by purpose."""

from collections.abc import Sequence
from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import audit_table, sidebar, turns, usage_chart, words
from pages._parts.elements import row
from pages._session import callbacks, open_dialog, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import Purpose
from services.domain.accounts import Account
from services.domain.usage import UsageReport, UsageSum

_PURPOSES = {
    Purpose.REPLY: "Replies",
    Purpose.TITLE: "Titles",
    Purpose.SUMMARY: "Summaries",
    Purpose.FACTS: "Memories",
}
_DELETED = "Deleted and temporary chats"


def _draw_limits(account: Account) -> None:
    with row("limits"):
        for limit in account.limits:
            with st.container(gap="xxsmall", width=300):
                label = f"**{words.LIMITS[limit.cap]}** {words.used_of(limit)}"
                st.progress(limit.share, label)
                st.caption(f"{words.resets(limit.cap)}.")


def _draw_sums(person: PersonServices, report: UsageReport) -> None:
    ids = [one.conversation_id for one in report.conversations if one.conversation_id]
    titles = {one.id: one.title for one in person.store.conversations.some(ids)}
    with st.container(key="usage-table", gap="large"):
        _draw_table(
            "Chat",
            [
                (
                    titles.get(one.conversation_id, _DELETED) if one.conversation_id else _DELETED,
                    one,
                )
                for one in report.conversations
            ],
        )
        _draw_table("Used for", [(_PURPOSES[one.purpose], one) for one in report.purposes])


def _draw_table(noun: str, sums: Sequence[tuple[str, UsageSum]]) -> None:
    table = pd.DataFrame(
        {
            noun: name,
            words.COST: one.cost_micro / words.MILLION,
            words.MESSAGES if noun == "Chat" else "Requests": one.turns,
            words.INPUT_TOKENS: one.tokens_in,
            "Cached": one.tokens_cached,
            words.OUTPUT_TOKENS: one.tokens_out,
        }
        for name, one in sums
    )
    numbers = (words.MESSAGES, "Requests", words.INPUT_TOKENS, "Cached", words.OUTPUT_TOKENS)
    written = dict.fromkeys(numbers, words.number) | {words.COST: words.dollars_of}
    cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
        cast(Any, table).style.format({name: written[name] for name in table.columns[1:]}),
        hide_index=True,
        row_height=38,
        column_config={noun: st.column_config.TextColumn(width=200)},
        alt=f"Cost and tokens by {noun.lower()}",
    )


def _draw_usage(person: PersonServices) -> None:
    with st.container(gap=2):
        st.title(words.USAGE, anchor=False)
        st.markdown(":gray[What your messages, titles, summaries and memories cost.]")
    _draw_limits(person.account)
    days = usage_chart.choose_days()
    if days is None:
        return
    report = person.store.usage.report(*days)
    if not report.days:
        st.info("Nothing was used on these days.")
        return
    usage_chart.draw(report.days, days, "/export/usage.csv")
    _draw_sums(person, report)


def _draw_changes(person: PersonServices) -> None:
    if changes := person.store.usage.account_changes():
        with st.container(key="account-changes"):
            st.markdown("**Changes to your account**")
            audit_table.draw(changes, names_users=False)


person = person_services()
sidebar.draw_top()
with show_errors():
    _draw_usage(person)
    _draw_changes(person)
said = turns.draw_refusals(has_composer=False)
open_dialog()
sidebar.draw_rest(person)
callbacks().forget(said)
