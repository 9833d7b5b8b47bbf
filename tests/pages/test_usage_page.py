"""The usage page: spending against the limits, by day, by chat and by purpose."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape

import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df

from pages._parts import words
from pages._parts.words import dollars
from services.domain.models import PriceSource
from tests.pages.conftest import captions, grid, html
from tests.stores import COST_MICRO, USAGE


@pytest.fixture
def open_usage(open_app, maya):
    return lambda: open_app(maya).switch_page("pages/usage.py").run()


def choose_days(app, *days):
    app.segmented_control(key="usage-span").set_value("Other days").run()
    return app.date_input(key="usage-days").set_value(days).run()


def tables(app):
    """Return the rows by chat and by purpose: the label of each, and its figures by column."""
    return [
        [(label, dict(zip(columns, figures, strict=True))) for label, figures in rows.items()]
        for columns, rows in (grid(app, 0), grid(app, 1))
    ]


def charted(app):
    (chart,) = app.get("vega_lite_chart")
    return convert_arrow_bytes_to_pandas_df(chart.proto.data.data).to_dict("records")


def test_dates_that_begin_with_a_number_begin_no_list(open_usage, monkeypatch):
    monkeypatch.setattr(words, "span", lambda *days: "29. Okt. to 27. Nov.")

    assert r"29\. Okt\. to 27\. Nov\. · Days begin at" in captions(open_usage())


def test_usage_is_shown_by_chat_and_purpose(open_usage, database):
    database.hold("Garden", "One", "Two", "Three", "Four")
    gone = database.hold("Pond", "Five", "Six")
    database.conversations.discard(gone, 1)
    database.let_pass(2)
    database.sweep()
    database.conversations.discard(database.hold("Lake", "Seven", "Eight"), 60)

    app = open_usage()

    chats, purposes = tables(app)
    assert [(label, row["Messages"]) for label, row in chats] == [
        ("Garden", "2"),
        ("Deleted and temporary chats", "2"),
    ]
    ((label, replies),) = purposes
    assert (label, replies["Requests"]) == ("Replies", "4")
    assert replies["Input tokens"] == f"{4 * USAGE.prompt:,}"
    assert replies["Cost"] == dollars(4 * COST_MICRO)
    assert [each.value for each in app.header] == ["By chat", "By purpose"]


def test_chats_beyond_the_listed_ones_are_one_row(open_usage, database, monkeypatch):
    database.hold("Garden", "One", "Two")
    report = database.ledger.usage.report

    def with_rest(*days):
        found = report(*days)
        rest = replace(found.conversations[0], conversation_id=None, is_rest=True, replies=7)
        return replace(found, conversations=(*found.conversations, rest))

    monkeypatch.setattr(database.ledger.usage, "report", with_rest)

    chats, _ = tables(open_usage())

    assert [(label, row["Messages"]) for label, row in chats] == [
        ("Garden", "1"),
        ("Other chats", "7"),
    ]


def test_chat_without_a_title_has_a_name(open_usage, database):
    database.hold("", "One", "Two")

    chats, _ = tables(open_usage())

    assert [label for label, _ in chats] == ["Untitled"]


def test_chat_is_named_whole_and_linked(open_usage, database):
    title = "How do I prune an old pear tree <b>that</b> has not been cut for twenty years?"
    chat = database.hold(title, "One", "Two")

    app = open_usage()

    assert [label for label, _ in tables(app)[0]] == [title]
    assert f'href="/?c={chat}" target="_self">{escape(title)}</a>' in html(app)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price_source": PriceSource.UNKNOWN}, "has no known price and counts as free"),
        ({"price_source": PriceSource.LOCAL}, "runs on this server and is free"),
        ({}, "had no price when it was used"),
        ({"input_micro": 0, "output_micro": 0}, "has a price of zero"),
    ],
)
def test_cost_of_nothing_has_a_reason(open_usage, maya, database, monkeypatch, changes, said):
    database.hold("Garden", "One", "Two")
    report = database.ledger.usage.report

    def free(*days):
        found = report(*days)
        parts = {name: getattr(found, name) for name in ("days", "purposes", "conversations")}
        return replace(
            found,
            **{
                name: tuple(replace(one, cost_micro=0) for one in each)
                for name, each in parts.items()
            },
        )

    monkeypatch.setattr(database.ledger.usage, "report", free)
    models = maya.offers
    offers = [replace(offer, info=replace(offer.info, **changes)) for offer in models.every()]
    monkeypatch.setattr(type(models), "every", lambda self: offers)

    app = open_usage()

    (_, garden) = tables(app)[0][0]
    assert garden["Cost"] == "$0.00 (free)"
    assert rf"Why a cost is \$0.00: scripted {said}." in captions(app)


def test_cost_has_no_reason_where_all_was_paid(open_usage, database):
    database.hold("Garden", "One", "Two")

    assert "Why a cost is" not in captions(open_usage())


def test_chart_follows_the_chosen_figure(open_usage, database):
    database.hold("Garden", "One", "Two")
    app = open_usage()
    (day,) = charted(app)
    assert (day["model"], day["value"]) == ("scripted", COST_MICRO / 1_000_000)

    app.segmented_control(key="usage-figure").set_value("Tokens").run()

    assert [day["value"] for day in charted(app)] == [USAGE.prompt + USAGE.reply]


def test_limits_say_what_is_left_and_when_they_reset(open_usage, database):
    database.ledger.spent_today = 250_000

    app = open_usage()

    said = [bar.proto.text for bar in app.get("progress")]
    assert said == [
        r"**Daily limit** \$0.25 of \$1.00",
        r"**Monthly limit** \$0.00 of \$10.00",
    ]
    assert "Resets at" in captions(app)


def test_limit_on_tokens_is_shown_where_there_is_one(open_usage, database):
    database.ledger.daily_tokens, database.ledger.tokens_today = 50_000, 1_200

    app = open_usage()

    bars = {bar.proto.text: bar.proto.value for bar in app.get("progress")}
    assert bars["**Daily token limit** 1,200 of 50,000"] == 2  # per cent


def test_shared_limit_that_is_near_is_told(open_usage, database):
    assert "Shared monthly" not in captions(open_usage())

    database.ledger.deployment_share = 1.0

    assert "Shared monthly limit reached. Resets on" in captions(open_usage())


def test_days_without_usage_say_so(open_usage, database):
    database.hold("Garden", "One", "Two")
    app = open_usage()
    day = datetime.now(UTC).date() - timedelta(days=100)

    choose_days(app, day, day)

    assert [info.value for info in app.info] == ["Nothing was used on these days."]
    assert "<table>" not in html(app)


def test_first_day_alone_asks_for_the_last(open_usage):
    app, today = open_usage(), datetime.now(UTC).date()

    choose_days(app, today - timedelta(days=5))

    assert "Choose the last day, too." in captions(app)


def test_download_has_the_chosen_days(open_usage, database):
    database.hold("Garden", "One", "Two")
    app, today = open_usage(), datetime.now(UTC).date()

    assert 'action="/export/usage.csv"' in html(app)
    assert f'name="last" value="{today}"' in html(app)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        ({"spent_today": 899_000}, ""),
        (
            {"spent_today": 950_000},
            r"Daily limit nearly reached: \$0.95 of \$1.00. Resets at",
        ),
        ({"spent_this_month": 10_000_000}, "Monthly limit reached. Resets on"),
        ({"daily_tokens": 100, "tokens_today": 95}, "Daily token limit nearly reached: 95 of"),
        (  # less is left than the next reply may cost
            {"daily_micro": 12_000, "spent_today": 10_500},
            r"Daily limit: only \$0.0015 left. Resets at",
        ),
        (
            {"daily_tokens": 300, "monthly_micro": 10_000_000, "spent_this_month": 9_500_000},
            "Daily token limit: only 300 tokens left. Resets at",
        ),
        (
            {"deployment_share": 0.95},
            "Shared monthly limit nearly reached: 95 %. Resets on",
        ),
    ],
)
def test_limit_that_is_near_is_told_before_anything_is_typed(open_app, maya, used, said):
    for name, value in used.items():
        setattr(maya.database.ledger, name, value)

    app = open_app(maya)

    assert ("Resets" in captions(app)) is bool(said)
    assert said in captions(app)


@pytest.mark.parametrize(("left", "is_low"), [(5_999, True), (6_000, False)])
def test_three_times_the_dearest_reply_is_told_before_a_refusal(
    open_app, maya, database, left, is_low
):
    replies = [part for n in range(5) for part in (f"prompt {n}", f"reply {n}")]
    garden = database.hold("Garden", *replies)
    for cost in (9_000, 100, 2_000, 100):  # the first is not among the last three
        database.go_on(garden, "And then?", "So.", cost_micro=cost)
    database.ledger.daily_micro = 20_000
    database.ledger.spent_today = 20_000 - left

    app = open_app(maya, c=str(garden))

    assert ("Daily limit: only " in captions(app)) is is_low
