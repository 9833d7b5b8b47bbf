"""The admin page: totals, for admins alone."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from streamlit.proto.SelectWidgetFilterMode_pb2 import SelectWidgetFilterMode

from pages._admin.users import delete_dialog, suspend_dialog
from pages._parts import words
from services import bootstrap
from services.domain import AccountRole, Purpose
from services.domain.accounts import RetentionPreview, SignInState, SignUps, UserOrder
from services.domain.addresses import NO_ADDRESS
from services.domain.health import Abilities, MailHealth, StoreHealth, UnsentReason
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.domain.usage import DayUsage, PurposeUsage, UsageReport
from services.errors import AdminsOnly, LastAdmin, NotFound, StoreUnavailable
from tests.fakes import MAYA, FakePerson, ScriptedModel, a_person, an_entry
from tests.pages.conftest import (
    ROOT,
    audit,
    chosen,
    grid,
    html,
    in_dialog,
    news,
    press,
    pressed,
    refusals,
    refused,
    warnings,
)
from tests.store.conformance.talk import NOON
from tests.stores import InMemoryDatabase

NOW = datetime.now(UTC).replace(day=15)  # the database's time; some days of its month are over
_SUMS = {"tokens_in": 4_000, "tokens_cached": 500, "tokens_out": 1_600}
TOTAL_USAGE = UsageReport(
    days=(DayUsage(day=NOON.date(), model="scripted", replies=40, cost_micro=10_400, **_SUMS),),
    purposes=(PurposeUsage(purpose=Purpose.REPLY, turns=40, cost_micro=10_400, **_SUMS),),
    active_users=3,
    failed=2,
    interrupted=1,
    first_token_ms=180,
    first_token_p95_ms=1_240,
)
WHY_UNSENT = {
    UnsentReason.SERVER: "its mail server refused",
    UnsentReason.LIMIT: "its limit of emails or sign-ups",
    UnsentReason.TEAM_ONLY: "Supabase's own mail server sends to the project's team only",
    UnsentReason.CLOSED: "Supabase Auth accepts no sign-ups",
    UnsentReason.OTHER: "it did not answer, or refused",
}
HEALTH = StoreHealth(
    abilities=Abilities(takes_several_processes=True, isolates_users=True),
    database_ms=3,
    api_ms=12,
    clock_skew_seconds=0.04,
    figures={"Max rows per response": 500, "PostgreSQL": "18.4"},
)


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA, lambda: NOW)


def changes(admin):
    """Return the changes in the audit, the oldest first: action, user, new values."""
    return [
        (one.action, one.target, {name: after for name, (_, after) in one.detail.items()})
        for one in reversed(admin.administration.audit())
    ]


def admin(database):
    return FakePerson(database, ScriptedModel(), AccountRole.ADMIN, "ruth@daybook.test")


def links(app):
    return re.findall('<a href="/\\w+">(.*?)</a>', html(app))


@pytest.mark.usefixtures("jonas")
def test_admin_sees_totals_and_no_content(open_app, database):
    database.hold("Secret title", "secret prompt", "secret reply")
    app = open_app(admin(database))
    assert links(app) == ["Memory", "Usage", "Your data", "Account", "Admin"]

    app.query_params["tab"] = "Users"
    app.switch_page("pages/admin.py").run()

    assert [title.value for title in app.title] == ["Admin"]
    row, own = app.dataframe[0].value.to_dict("records")
    assert own["User"] == "ruth@daybook.test"
    assert row["User"] == "jonas@daybook.test"
    assert row["Messages this month"] == 40
    assert (row["Cost today"], row["Cost this month"]) == (0.00078, 0.0104)
    assert "secret" not in str(app.main).lower()


def test_opened_user_has_figures_of_today_and_this_month(open_user):
    columns, figures = grid(open_user())

    assert columns == ["Today", "This month"]
    assert figures["Messages"] == ["3", "40"]
    assert figures["Tokens"] == ["600", "5,600"]
    assert figures["Cost"] == ["under $0.01", "$0.01"]
    assert figures["Limit"] == ["$1.00", "$10.00"]
    assert figures["Left"] == ["$1.00", "$9.99"]


def test_opened_user_shows_state_age_and_second_step(open_user, ruth, database, jonas):
    database.put_user(replace(jonas, is_suspended=True))
    ruth.sign_in_state_of = lambda _: SignInState(
        begun_at=datetime(2026, 3, 5, 9, tzinfo=UTC),
        is_confirmed=True,
        has_app=True,
        asks_passkey=True,
    )

    app = open_user()

    (line,) = [one.value for one in app.caption if one.value.startswith("**Suspended** · User · ")]
    assert "Account since 5 Mar" in line
    assert "Email confirmed · Second step: an authenticator app or a passkey" in line
    assert [row["State"] for row in app.dataframe[0].value.to_dict("records")] == [
        "Suspended",
        "Active",
    ]


def test_account_without_a_recorded_begin_says_unknown(open_user):
    (line,) = [one.value for one in open_user().caption if "Account since" in one.value]

    assert "Account since unknown · Email not confirmed · Second step: none" in line


def test_tokens_are_shown_beside_their_limit(open_user, database, jonas):
    database.put_user(replace(jonas, daily_cap_tokens=50_000))

    _, figures = grid(open_user())

    assert figures["Tokens"][0] == "600 of 50,000"


def test_nothing_is_left_of_an_exceeded_limit(open_user, database, jonas):
    database.put_user(replace(jonas, cost_today_micro=1_000_001))

    _, figures = grid(open_user())

    assert figures["Left"][0] == "$0.00"


def test_conversation_is_renamed_on_the_admin_page(open_app, database, garden):
    app = open_app(admin(database)).switch_page("pages/admin.py").run()

    chosen(app, garden, "Rename")
    app.text_input(key=f"title-{garden}").set_value("Roses").run()

    assert database.thread(garden).conversation.title == "Roses"


def test_other_users_are_refused_without_a_query(open_app, maya):
    app = open_app(maya)
    assert links(app) == ["Memory", "Usage", "Your data", "Account"]

    app.switch_page("pages/admin.py").run()

    assert [title.value for title in app.title] == ["Admins only"]
    assert not app.dataframe
    assert maya.administration.calls == []
    app.button(key="way-out").click().run()
    assert app.chat_input(key="composer")


@pytest.fixture
def ruth(database):
    return admin(database)


@pytest.fixture
def jonas(database):
    return put(database, "jonas@daybook.test")


def put(database, email, **changes):
    """Store another user; return the row."""
    row = replace(a_person(email), **changes)
    database.put_user(row)
    return row


@pytest.fixture
def open_tab(open_app, ruth):
    def open_tab(name):
        app = open_app(ruth)
        app.query_params["tab"] = name
        return app.switch_page("pages/admin.py").run()

    return open_tab


@pytest.fixture
def open_user(open_tab, jonas):
    def open_user():
        return open_tab("Users").multiselect(key="chosen-users").set_value([jonas.user_id]).run()

    return open_user


def suspended(app, *users):
    """Press Suspend, and the button that confirms it; return the app after the run."""
    return pressed(in_dialog(pressed(app, "suspend"), suspend_dialog, users), "danger-suspend")


def field(app, label):
    return next(one for one in app.number_input if one.label == label)


def test_limits_changed_elsewhere_are_in_the_form(open_user, database, jonas):
    app = open_user()
    field(app, "Daily limit ($)").set_value(2.5).run()

    database.put_user(replace(jonas, daily_cap_micro=50_000_000))

    assert field(app.run(), "Daily limit ($)").value == 50


def test_fields_of_another_user_are_not_the_same(open_user, database):
    kim = put(database, "kim@daybook.test")
    app = open_user()
    before = field(app, "Daily limit ($)").key

    app.multiselect(key="chosen-users").set_value([kim.user_id]).run()

    # a browser keeps an unsaved entry for a field with an unchanged key
    assert field(app, "Daily limit ($)").key != before


def test_limits_of_a_user_are_changed(open_user, ruth, jonas):
    app = open_user()

    field(app, "Daily limit ($)").set_value(2.5)
    field(app, "Tokens per day").set_value(50_000)
    app.button[[one.label for one in app.button].index("Save")].click().run()

    changed = {"daily_cap_micro": 2_500_000, "daily_cap_tokens": 50_000}
    assert changes(ruth) == [("caps.set", jonas.email, changed)]


@pytest.mark.parametrize("place", ["Users", "Settings"])
def test_limits_say_when_they_reset(open_tab, open_user, place):
    app = open_user() if place == "Users" else open_tab(place)

    (resets,) = [one.value for one in app.caption if "Daily limits reset " in one.value]
    assert re.search(
        r"Daily limits reset at \S+, monthly limits on .+ at \S+, your time\.$", resets
    )


def test_shared_limit_says_when_it_resets(open_tab, ruth):
    ruth.administration.set_deployment_cap(5_000_000)

    for place in ("Overview", "Settings"):
        assert any("Resets on" in one.value for one in open_tab(place).caption)


def test_limit_on_cost_is_not_emptied(open_user, ruth):
    app = open_user()

    field(app, "Monthly limit ($)").set_value(None)
    app.button[[one.label for one in app.button].index("Save")].click().run()

    assert refused(app) == {"Monthly limit ($)": "Enter 0 to 1,000,000."}
    assert changes(ruth) == []


def test_counts_are_whole_numbers(open_user):
    app = open_user()

    counts = [field(app, "Messages per minute"), field(app, "Simultaneous replies")]

    assert [(count.value, count.step, count.proto.format) for count in counts] == [
        (20, 1, "%d"),
        (4, 1, "%d"),
    ]


def test_number_out_of_bounds_is_refused(open_tab, ruth):
    app = open_tab("Settings")
    field(app, "Days").set_value(5)

    [one for one in app.button if one.label == "Save"][-1].click().run()

    assert refused(app) == {"Days": "Enter 15 to 3,650."}
    assert not warnings(app)
    assert changes(ruth) == []


def test_limit_on_tokens_is_lifted(open_user, ruth, database, jonas):
    database.put_user(replace(jonas, daily_cap_tokens=50_000))
    app = open_user()
    assert field(app, "Tokens per day").value == 50_000

    field(app, "Tokens per day").set_value(None)
    app.button[[one.label for one in app.button].index("Save")].click().run()

    assert changes(ruth) == [("caps.set", jonas.email, {"daily_cap_tokens": None})]


def test_users_to_edit_are_found_by_a_part_of_their_address(open_tab):
    mode = open_tab("Users").multiselect(key="chosen-users").proto.filter_mode

    assert mode == SelectWidgetFilterMode.FILTER_MODE_CONTAINS


def test_several_users_get_the_entered_limits(open_tab, ruth, database, jonas):
    kim = put(database, "kim@daybook.test")
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value([jonas.user_id, kim.user_id]).run()

    field(app, "Monthly limit ($)").set_value(5.0)
    app.button[[one.label for one in app.button].index("Save")].click().run()
    suspended(app, jonas, kim)

    changed = {"monthly_cap_micro": 5_000_000}
    assert changes(ruth) == [
        ("caps.set", jonas.email, changed),
        ("caps.set", kim.email, changed),
        ("account.suspend", jonas.email, {"suspended": True}),
        ("account.suspend", kim.email, {"suspended": True}),
    ]


def test_refusal_of_one_user_does_not_stop_the_others(open_tab, ruth, database, jonas):
    kim = put(database, "kim@daybook.test")
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value([jonas.user_id, kim.user_id]).run()

    app = pressed(app, "suspend")

    ruth.administration.delete(jonas.user_id)
    app = pressed(in_dialog(app, suspend_dialog, [jonas, kim]), "danger-suspend")

    assert changes(ruth)[1:] == [("account.suspend", kim.email, {"suspended": True})]
    assert refusals(app) == [f"{jonas.email}: This account no longer exists."]


def test_admin_is_suspended_after_the_other_users(open_tab, ruth, jonas):
    [own] = ruth.administration.list_users("ruth@", UserOrder.EMAIL).users
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value([own.user_id, jonas.user_id]).run()

    suspended(app, own, jonas)

    asked = [call for call in ruth.administration.calls if call[0] == "check_end"]
    assert asked == [("check_end", jonas.user_id), ("check_end", own.user_id)]


def test_several_suspended_users_are_restored(open_tab, ruth, database):
    jonas, kim = [
        put(database, email, is_suspended=True)
        for email in ("jonas@daybook.test", "kim@daybook.test")
    ]
    app = open_tab("Users")
    states = [row["State"] for row in app.dataframe[0].value.to_dict("records")]
    assert sorted(states) == ["Active", "Suspended", "Suspended"]
    app.multiselect(key="chosen-users").set_value([jonas.user_id, kim.user_id]).run()

    pressed(app, "suspend")

    assert changes(ruth) == [
        ("account.suspend", jonas.email, {"suspended": False}),
        ("account.suspend", kim.email, {"suspended": False}),
    ]


def test_user_is_deleted_once_the_address_is_typed(open_user, ruth, jonas):
    app = pressed(open_user(), "delete-user")
    assert "will be permanently deleted" in "".join(each.value for each in app.markdown)

    app = pressed(in_dialog(app, delete_dialog, jonas), "danger-delete-user")
    assert changes(ruth) == []
    in_dialog(app, delete_dialog, jonas).run()
    app.text_input(key=f"delete-{jonas.user_id}").set_value(jonas.email)
    app = pressed(in_dialog(app, delete_dialog, jonas), "danger-delete-user")

    assert changes(ruth) == [("account.delete", str(jonas.user_id), {})]
    assert not app.multiselect(key="chosen-users").value


@pytest.mark.usefixtures("jonas")
def test_overview_shows_usage_and_costs_of_all(open_tab, ruth, monkeypatch):
    asked = []

    def usage(_, user_id=None):
        asked.append(user_id)
        return TOTAL_USAGE

    monkeypatch.setattr(ruth.administration, "usage", usage)
    app = open_tab("Overview")

    costs = {metric.label: metric.value for metric in app.metric}
    assert costs == {"Cost today": "under $0.01", "Cost this month": "$0.01"}
    columns, figures = grid(app)
    assert columns == ["7 days", "30 days"]
    assert figures["Cost"] == ["$0.01", "$0.01"]
    assert (figures["Active users"][0], figures["Messages"][0]) == ("3", "40")
    assert (figures["Failed replies"][0], figures["Interrupted replies"][0]) == ("2", "1")
    assert figures["Time to first token (median)"][0] == "0.18 s"
    assert figures["Time to first token (95th percentile)"][0] == "1.24 s"
    assert asked == [None] * 2


def test_overview_has_a_column_of_other_days(open_tab):
    app, today = open_tab("Overview"), datetime.now(UTC).date()
    app.segmented_control(key="usage-span").set_value("Other days").run()

    app.date_input(key="usage-days").set_value((today - timedelta(days=2), today)).run()

    columns, figures = grid(app)
    assert len(columns) == len(figures["Messages"]) == 3


def test_audit_names_deleted_users_shortly_and_the_same(open_tab, ruth, monkeypatch):
    gone = "3f9a2c1b-0000-4000-8000-000000000000"
    entries = [
        replace(an_entry(2), actor=gone, target=f"{gone}@deleted.invalid"),
        replace(an_entry(1), actor=None),
    ]
    monkeypatch.setattr(ruth.administration, "audit", lambda *_, **__: entries)

    rows = audit(open_tab("Audit"))

    assert [(row["User"], row["By"]) for row in rows] == [
        ("Deleted user 3f9a2c1b", "Deleted user 3f9a2c1b"),
        ("jonas@daybook.test", "Server"),
    ]
    assert list(rows[0])[:3] == ["Time", "Action", "User"]


def test_audit_has_a_name_for_each_action_of_the_database(open_tab, ruth, monkeypatch):
    migrations = "".join(path.read_text("utf-8") for path in ROOT.glob("db/migrations/*.sql"))
    actions = set(re.findall(r"private\.note\([^;]*?'(\w+\.\w+)'", migrations))
    entries = [an_entry(number, action) for number, action in enumerate(actions)]
    monkeypatch.setattr(ruth.administration, "audit", lambda *_, **__: entries)

    named = [row["Action"] for row in audit(open_tab("Audit"))]

    assert "sign_in.repair" in actions
    assert len(named) == len(actions)
    assert not [name for name in named if "." in name]


@pytest.mark.parametrize(("is_alone", "name"), [(True, "You"), (False, NO_ADDRESS)])
def test_audit_calls_the_only_user_you(open_tab, ruth, monkeypatch, is_alone, name):
    monkeypatch.setattr(bootstrap.current_app(), "is_alone", is_alone)
    entry = replace(an_entry(1), actor=NO_ADDRESS, target=NO_ADDRESS)
    monkeypatch.setattr(ruth.administration, "audit", lambda *_, **__: [entry])

    [row] = audit(open_tab("Audit"))

    assert (row["User"], row["By"]) == (name, name)


def test_settings_change_what_differs(open_tab, ruth):
    app = open_tab("Settings")

    field(app, "Simultaneous replies").set_value(2)
    app.button[[one.label for one in app.button].index("Save")].click().run()
    field_of_all = [one for one in app.number_input if one.label == "Monthly limit ($)"][-1]
    field_of_all.set_value(50.0)
    [one for one in app.button if one.label == "Save"][1].click().run()

    assert changes(ruth) == [
        ("settings.set", None, {"max_open": 2}),
        ("caps.deployment", None, {"monthly_cap_micro": 50_000_000}),
    ]


def test_only_user_changes_the_own_limits_in_settings(open_tab, ruth):
    bootstrap.current_app().is_alone = True
    app = open_tab("Settings")

    field(app, "Daily limit ($)").set_value(2.5)
    app.button[[one.label for one in app.button].index("Save")].click().run()

    assert "Limits for new users" not in html(app)
    assert changes(ruth) == [("caps.set", ruth.email, {"daily_cap_micro": 2_500_000})]
    assert field(app, "Daily limit ($)").value == 2.5


def test_role_of_a_user_is_changed(open_user, ruth, jonas):
    app = pressed(open_user(), "set-role")

    assert changes(ruth) == [("role.set", jonas.email, {"role": AccountRole.ADMIN})]
    assert news(app) == ["jonas@daybook.test is an admin now."]


def test_user_is_named_before_being_suspended(open_user, ruth, jonas):
    app = pressed(open_user(), "suspend")
    assert 'class="db-names">jonas@daybook.test<' in html(app)
    assert changes(ruth) == []

    app = pressed(in_dialog(app, suspend_dialog, [jonas]), "danger-suspend")

    assert changes(ruth) == [("account.suspend", jonas.email, {"suspended": True})]
    assert news(app) == ["jonas@daybook.test suspended."]


def test_users_stay_chosen_while_others_are_searched(open_tab, database, jonas):
    kim = put(database, "kim@daybook.test")
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value([jonas.user_id]).run()

    app.text_input(key="user-words").set_value("kim").run()
    assert app.multiselect(key="chosen-users").value == [jonas.user_id]
    app.multiselect(key="chosen-users").set_value([jonas.user_id, kim.user_id]).run()
    app.text_input(key="user-words").set_value("nobody").run()

    assert app.multiselect(key="chosen-users").value == [jonas.user_id, kim.user_id]
    assert [info.value for info in app.info] == ["No users found."]


def test_chosen_user_stays_however_many_addresses_contain_theirs(open_tab, database):
    lee = put(database, "lee@corp.example")
    for n in range(501):
        put(database, f"a{n:03}.lee@corp.example")
    app = open_tab("Users")
    app.selectbox[0].set_value(UserOrder.EMAIL).run()
    app.pagination[0].set_value(6).run()
    app.multiselect(key="chosen-users").set_value([lee.user_id]).run()

    app.text_input(key="user-words").set_value("nobody").run()

    assert app.multiselect(key="chosen-users").value == [lee.user_id]


def test_page_of_users_is_one_query_however_many_are_chosen(open_tab, ruth, database):
    several = [put(database, f"user{n}@daybook.test").user_id for n in range(5)]
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value(several).run()
    before = len(ruth.administration.calls)

    app.text_input(key="user-words").set_value("nobody").run()

    asked = [call[1] for call in ruth.administration.calls[before:] if call[0] == "list_users"]
    assert set(asked) == {"nobody"}
    assert app.multiselect(key="chosen-users").value == several


def test_several_users_out_of_view_are_suspended_and_restored(open_tab, database, jonas):
    both = [jonas, put(database, "kim@daybook.test")]
    app = open_tab("Users")
    app.multiselect(key="chosen-users").set_value([one.user_id for one in both]).run()
    app.text_input(key="user-words").set_value("nobody").run()

    assert app.button(key="suspend").label == "Suspend"
    app = suspended(app, *both)

    assert app.button(key="suspend").label == "Restore access"


def test_user_who_is_no_longer_listed_is_read_anew(open_user, ruth, database, jonas):
    app = open_user()
    app.text_input(key="user-words").set_value("kim").run()

    database.put_user(replace(jonas, daily_cap_micro=50_000_000))
    assert field(app.run(), "Daily limit ($)").value == 50
    ruth.administration.delete(jonas.user_id)

    assert not app.run().multiselect


@pytest.mark.usefixtures("jonas")
def test_row_of_a_user_opens(open_tab):
    app = open_tab("Users")
    (row, _) = app.dataframe[0].value.to_dict("records")
    config = json.loads(app.dataframe[0].proto.columns)

    assert (row["Open"], config["Open"]["type_config"]["type"]) == ("Open", "button")


def test_addresses_are_no_markdown(open_user, ruth, jonas):
    """Markdown would make links of addresses, unless `safe_md` inserts word joiners."""
    app = open_user()
    for key in ("set-role", "sign-out", "suspend"):
        app = pressed(app, key)

    read = [each.value for kind in ("markdown", "caption") for each in app.get(kind)]
    read += [each.label for each in app.button]
    assert not [each for each in read if "@" in each or "\u2060" in each]
    assert jonas.email in html(app)
    assert "<p>ruth@daybook.test, admin</p>" in html(app)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (LastAdmin, "This is the last admin."),
        (NotFound, "This account no longer exists."),
        (AdminsOnly, "You are no longer an admin: the change was refused."),
    ],
)
@pytest.mark.parametrize("key", ["suspend", "set-role", "sign-out"])
def test_refused_change_says_why(open_user, ruth, jonas, key, failure, said):
    app = open_user()
    ruth.administration.failures[key.replace("-", "_")] = failure()

    app = suspended(app, jonas) if key == "suspend" else pressed(app, key)

    place = warnings if failure is AdminsOnly else refusals
    assert said in "".join(place(app))


def test_users_are_searched_sorted_and_paged(open_tab, ruth, database):
    for n in range(150):
        put(database, f"user{n}@daybook.test")
    app = open_tab("Users")

    app.pagination[0].set_value(2).run()
    app.selectbox[0].set_value(UserOrder.EMAIL).run()
    app.text_input(key="user-words").set_value("nobody").run()

    asked = [call[1:4] for call in ruth.administration.calls if call[0] == "list_users"]
    assert asked[-4:] == [
        ("", UserOrder.COST, 0),
        ("", UserOrder.COST, 100),
        ("", UserOrder.EMAIL, 0),
        ("nobody", UserOrder.EMAIL, 0),
    ]
    assert [info.value for info in app.info] == ["No users found."]


def test_audit_says_who_changed_what(open_tab, ruth, jonas):
    ruth.models.offer("gpt-5", is_offered=False)
    ruth.administration.suspend(jonas.user_id, is_suspended=True)
    changed = {"daily_cap_micro": 2_500_000, "daily_cap_tokens": 9_000}
    ruth.administration.set_caps(jonas.user_id, changed)
    ruth.administration.set_caps(jonas.user_id, {"monthly_cap_micro": 50_000})
    ruth.sign_ups.set_mode(SignUps.INVITED)

    rows = audit(open_tab("Audit"))

    assert [(row["Action"], row["Change"]) for row in rows] == [
        ("Settings changed", "Who can create an account: Open → By invitation"),
        ("Limits changed", "Monthly limit: $10.00 → $0.05"),
        ("Limits changed", "Daily limit: $1.00 → $2.50; Tokens per day: none → 9,000"),
        ("Access changed", "Suspended: no → yes"),
        ("Model changed", "Model: gpt-5; Offered: yes → no"),
    ]
    assert (rows[2]["By"], rows[2]["User"]) == ("ruth@daybook.test", "jonas@daybook.test")


def test_audit_is_turned_to_older_entries_and_back(open_tab, ruth, jonas):
    for number in range(150):
        ruth.administration.set_caps(jonas.user_id, {"max_open": 10 + number})
    app = open_tab("Audit")

    assert len(audit(pressed(app, "older-entries"))) == 50
    assert len(audit(pressed(app, "newest-entries"))) == 100


def test_retention_is_previewed_and_set(open_tab, ruth, monkeypatch):
    preview = RetentionPreview(conversations=3, users=2, bytes=1_500)
    monkeypatch.setattr(ruth.administration, "preview_retention", lambda _: preview)
    app = open_tab("Settings")
    field(app, "Days").set_value(90)

    app = press(app, "Preview")

    assert news(app) == ["3 chats of 2 users (1.5 kB) would be deleted within 14 days."]
    assert changes(ruth) == []
    [one for one in app.button if one.label == "Save"][-1].click().run()
    assert changes(ruth) == [("settings.set", None, {"retention_days": 90})]


@pytest.mark.parametrize(
    "sentence",
    [
        "Pinned and archived chats are deleted, too.",
        "After the period is set or shortened, no chat is deleted for 14 days.",
    ],
)
def test_effect_of_retention_is_told_where_it_is_set(open_tab, sentence):
    told = [each.value for each in open_tab("Settings").caption]

    assert any(sentence in each for each in told)


def test_owner_is_warned_of_chats_that_expire(open_app, ruth, database):
    for title in ("Garden", "Pond"):
        database.hold(title, "One", "Two")
    ruth.administration.change_settings({"retention_days": 15})
    database.let_pass(2 * 86400)

    app = open_app(ruth)

    (warning,) = [each.value for each in app.sidebar.caption if "unused" in each.value]
    assert "2 unused chats will be deleted from" in warning
    assert "on, pinned and archived ones too." in warning


def parts_of_health(app):
    """Return the lines and the figures of the tab, by their labels."""
    lines = [line for text in app.text for line in text.value.splitlines()]
    texts = dict(line.split(": ", 1) for line in lines if ": " in line)
    return texts | {metric.label: metric.value for metric in app.metric}


def test_health_lists_the_last_failed_calls(open_tab, ruth, monkeypatch):
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)
    assert "Last failed calls" not in "".join(fold.label for fold in open_tab("Health").expander)
    details = FailureDetails(400, code="context_length_exceeded", sentence="kumquat")
    failures = ruth.offers.failures
    failures.add("<mini>", ModelUnavailable(ModelFailure.SILENT))
    failures.add("<mini>", ModelUnavailable(ModelFailure.TOO_LONG, details=details))

    [fold] = [fold for fold in open_tab("Health").expander if "failed calls" in fold.label]

    assert fold.label == "Last failed calls (2)"
    [table] = [part.proto.body for part in fold.get("html")]
    assert table.index("chat too long") < table.index("no answer in time")
    assert (
        "<td>&lt;mini&gt;</td><td>chat too long</td><td>400</td><td>context_length_exceeded</td>"
        in table
    )
    assert "kumquat" not in table


def test_health_shows_each_part(open_tab, ruth, monkeypatch):
    calls = bootstrap.current_app().recent_calls
    for failure, ms in ((None, 120), (ModelFailure.GARBLED, None)):
        calls.record("turn.finished", {"first_token_ms": ms, "failure": failure})
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)

    app = open_tab("Health")

    shown = parts_of_health(app)
    assert shown["Store"] == bootstrap.current_app().health.store
    assert (shown["Database"], shown["API and network"]) == ("3 ms", "12 ms")
    assert shown["Max rows per response"] == "500"
    assert (shown["Recent calls"], shown["Failed calls"]) == ("2", "1")
    assert shown["Time to first token (median)"] == "0.12 s"
    assert shown["Last error"].startswith("unreadable response, ")
    assert not app.warning
    # words are no figures
    assert {metric.label for metric in app.metric} <= {
        *("Recent calls", "Failed calls", "Time to first token (median)", "Database"),
        *("API and network", "Clock difference", "Max rows per response"),
    }


@pytest.mark.parametrize(("seconds", "shown"), [(-0.04, "0.0 s"), (-0.06, "-0.1 s"), (2, "+2.0 s")])
def test_clock_difference_of_zero_has_no_sign(open_tab, ruth, monkeypatch, seconds, shown):
    health = replace(HEALTH, clock_skew_seconds=seconds)
    monkeypatch.setattr(ruth.administration, "health", lambda: health)

    assert parts_of_health(open_tab("Health"))["Clock difference"] == shown


def test_each_failure_of_a_model_has_words():
    assert words.MODEL_FAILURES.keys() == {*ModelFailure}


def test_health_of_a_store_without_an_api_shows_no_time_for_one(open_tab, ruth, monkeypatch):
    monkeypatch.setattr(ruth.administration, "health", lambda: replace(HEALTH, api_ms=None))

    shown = parts_of_health(open_tab("Health"))

    assert "API and network" not in shown
    assert shown["Database"] == "3 ms"


def test_health_says_what_the_store_cannot_do(open_tab, ruth, monkeypatch):
    def shown(**abilities):
        health = replace(HEALTH, abilities=Abilities(**abilities))
        monkeypatch.setattr(ruth.administration, "health", lambda: health)
        parts = parts_of_health(open_tab("Health"))
        return parts["App processes"], parts["Users are kept apart by"]

    able = shown(takes_several_processes=True, isolates_users=True)
    unable = shown(takes_several_processes=False, isolates_users=False)

    assert able == ("several are allowed", "the database and keys")
    assert unable == ("one at a time", "the app and keys")


def test_health_says_that_a_newer_version_changed_the_database(open_tab, ruth, monkeypatch):
    monkeypatch.setattr(ruth.administration, "health", lambda: replace(HEALTH, is_newer=True))

    [newer] = warnings(open_tab("Health"))

    assert newer.startswith("A newer version of Daybook has changed the database.")


def test_health_shows_mail_where_it_is_set(open_tab, ruth, monkeypatch):
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)
    assert "Waiting" not in [metric.label for metric in open_tab("Health").metric]
    failed_at = datetime(2026, 11, 25, 14, tzinfo=UTC)
    mail = MailHealth(
        last_hour=12,
        at_most=1000,
        for_known=200,
        waiting=3,
        last_failure="the server refused the login, or allows none by password",
        last_failed_at=failed_at,
    )
    bootstrap.current_app().mailer = SimpleNamespace(health=lambda: mail)

    app = open_tab("Health")

    shown = parts_of_health(app)
    assert shown["Last hour"] == "12 of 1,000"
    assert (shown["Reserved for known devices"], shown["Waiting"]) == ("200", "3")
    assert shown["Last failed attempt"].startswith(
        "the server refused the login, or allows none by password, "
    )
    assert warnings(app) == []

    ruth.auth_confirms = True

    [confirmed] = warnings(open_tab("Health"))
    assert "Supabase Auth confirms addresses itself" in confirmed


def test_health_counts_accounts_that_nothing_lets_in(open_tab, ruth, monkeypatch):
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)
    assert warnings(open_tab("Health")) == []
    ruth.left_out = lambda: 3

    [left_out] = warnings(open_tab("Health"))

    assert left_out.startswith("3 accounts cannot sign in.")
    bootstrap.current_app().is_alone = True
    assert warnings(open_tab("Health")) == []


def test_health_of_models_is_shown_without_a_database(open_tab, ruth, monkeypatch):
    def health():
        raise StoreUnavailable("away")

    monkeypatch.setattr(ruth.administration, "health", health)

    app = open_tab("Health")

    assert {"Version", "Recent calls"} <= {*parts_of_health(app)}
    assert [error.value for error in app.error] == [StoreUnavailable.public]


def test_failed_sign_ins_are_shown_with_what_to_do(open_tab, ruth, monkeypatch):
    calls = bootstrap.current_app().recent_calls
    for event in ("credentials.unopened", "sign_in.broken", "credentials.unopened", "store.back"):
        calls.record(event, {})
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)

    app = open_tab("Health")

    unopened, broken = warnings(app)
    assert "2 since the start, the last at " in unopened
    assert "`python -m services.operate check`" in unopened
    assert "1 since the start" in broken
    assert "repair-sign-in" in broken


@pytest.mark.parametrize("reason", UnsentReason)
def test_reason_why_confirmations_fail_is_shown(open_tab, ruth, monkeypatch, reason):
    calls = bootstrap.current_app().recent_calls
    calls.record("sign_up.failed", {"reason": UnsentReason.OTHER})
    calls.record("sign_up.failed", {"reason": reason})
    monkeypatch.setattr(ruth.administration, "health", lambda: HEALTH)

    [unsent] = warnings(open_tab("Health"))

    assert "did not send: 2 since the start" in unsent
    assert f"The last one: {WHY_UNSENT[reason]}" in unsent


def test_clock_that_differs_is_warned_of(open_tab, ruth, monkeypatch):
    late = replace(HEALTH, clock_skew_seconds=-31.0)
    monkeypatch.setattr(ruth.administration, "health", lambda: late)

    app = open_tab("Health")

    assert "The clocks differ" in "".join(warnings(app))
