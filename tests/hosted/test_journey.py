"""A user's day on the parts of hosted Supabase, with two app processes."""

import re
from contextlib import suppress
from zipfile import ZipFile

import pytest
from playwright.sync_api import Error, expect

from tests.journeys.admins import look_after
from tests.journeys.people import PASSWORD
from tests.journeys.test_notices import (
    test_account_tells_of_a_second_browser_and_of_failures_until_it_ends as account_tells,
)
from tests.journeys.test_usage import (
    test_message_is_found_in_the_usage_and_its_file as message_is_found,
)
from tests.stack.apps import running

SLOWLY = "[[tokens=40 rate=12]]"
TOO_LONG = "[[tokens=400 rate=12]]"
# only the first request gets this reply; later ones are answered with the prompt itself
FOR_EVER = "[[tokens=400 rate=12 times=1]]"


@pytest.fixture(scope="module")
def second(make_hosted_app):
    """A second app process, of which each test uses only its own users' sessions."""
    with running(make_hosted_app("second")) as second:
        second.until_ready()
        yield second


@pytest.fixture
def first(make_hosted_app):
    """An app process for a test that kills it."""
    with running(make_hosted_app("first")) as first:
        first.until_ready()
        yield first


def test_a_day_on_two_processes(first, second, make_hosted_app, open_rig, person):
    tokens = open_rig.gateway.calls["POST /auth/v1/token"]
    maya = person(url=first.url)
    maya.signs_up()
    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    maya.begins_a_new_chat()
    maya.asks("What is a hotbed?")
    maya.hears_all_of("You said: What is a hotbed?")
    maya.opens("When do I sow peas?")
    maya.page.reload()
    maya.hears_all_of("You said: When do I sow peas?")
    assert maya.texts() == ["When do I sow peas?", "You said: When do I sow peas?"]

    there = maya.new_tab(second.url)  # cookies do not distinguish ports
    maya.asks(f"Tell me more {SLOWLY}")
    maya.hears("word2")
    there.visit(f"/?c={maya.conversation_id}")
    there.hears("word3")
    for tab in (maya, there):
        tab.hears_all_of(re.compile("word1 .*word40"))

    maya.asks(f"Too much {TOO_LONG}")
    there.page.reload()
    there.hears("word3")
    there.stops()
    maya.sees_no_reply_coming()
    maya.sees("Stopped")

    maya.asks(f"And all {FOR_EVER}")
    there.page.reload()
    expect(there.messages).to_have_count(8)
    there.hears("word9")
    first.kill()
    there.sees("This reply was interrupted.")
    there.retries()
    there.hears_all_of("You said: And all")

    with running(make_hosted_app("first", base=first.base, port=first.port)) as again:
        again.until_ready()
        maya.page.reload()
        maya.hears_all_of("You said: And all")
        assert maya.texts() == there.texts()
        there.signs_out()
        maya.is_signed_out_before_long()

    # both processes use the access token of the sign-up
    assert open_rig.gateway.calls["POST /auth/v1/token"] == tokens
    with open_rig.connect() as rows:
        costs = rows.execute(
            "select micro from private.ledger join auth.users on users.id = user_id"
            " where purpose = 'reply' and email = %s",
            [maya.email],
        ).fetchall()
    assert len(costs) == 6
    assert all(micro > 0 for (micro,) in costs)


@pytest.mark.long_run(start=True)
def test_open_tab_shows_what_another_process_changes(app, second, open_rig, person):
    """The tab polls without any action of the user. When the user is suspended, the tab says so and the process drops all data."""
    maya = person()
    maya.signs_up()
    maya.asks("Beside it")
    maya.hears_all_of("You said: Beside it")
    beside = maya.conversation_id
    maya.begins_a_new_chat()
    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    garden = maya.conversation_id

    there = maya.new_tab(second.url)
    there.visit(f"/?c={garden}")
    there.hears_all_of("You said: When do I sow peas?")
    there.composer.fill("What I am typing")
    there.composer.evaluate("(field) => field.setSelectionRange(4, 6)")

    maya.asks("And beans?")
    there.hears_all_of("You said: And beans?")
    assert there.composer.evaluate(
        "(field) => [field.value, field === document.activeElement, field.selectionStart]"
    ) == ["What I am typing", True, 4]
    assert open_rig.gateway.calls["POST /rest/v1/rpc/poll"] > 0

    maya.visit(f"/?c={beside}")
    maya.hears_all_of("You said: Beside it")
    maya.asks(f"Slowly {FOR_EVER}")
    running_there = there.page.get_by_role("button", name="Reply in progress: Beside it")
    running_there.wait_for()
    maya.stops()
    expect(running_there).to_have_count(0)

    with open_rig.connect() as rows:
        me = "(select id from auth.users where email = %s)"
        rows.execute(
            f"update private.roles set suspended_at = now() where user_id = {me}", [maya.email]
        )
        rows.execute(f"select private.end_sessions_of({me})", [maya.email])
    for tab in (maya, there):
        tab.sees("This account is suspended. Contact your admin.")
        tab.is_asked_to_sign_in()


@pytest.mark.long_run(start=True)
def test_tab_of_another_process_goes_on_after_a_proof(app, second, open_rig, person):
    """Its reply ends and is stored, and the tab comes in by the new cookie without a word of signing out."""
    maya = person()
    maya.signs_up()
    there = maya.new_tab(second.url)
    there.visit()
    there.is_welcome()
    there.asks(f"Tell me more {SLOWLY}")
    there.hears("word2")

    with there.page.expect_websocket():  # by the new cookie, in the same document or after a reload
        maya.visit("/account?then=password")
        with open_rig.connect() as rows:
            older = "update private.app_sessions set proved_at = now() - interval '10 minutes'"
            me = "(select id from auth.users where email = %s)"
            rows.execute(f"{older} where user_id = {me}", [maya.email])
        maya.page.reload()
        maya.page.locator('form[action="/proof"]').get_by_label("Password").fill(PASSWORD)
        maya.page.keyboard.press("Enter")
        maya.sees("You can make changes for the next ten minutes.")
        there.hears_all_of(re.compile("word1 .*word40"))

    there.sees_no_reply_coming()
    there.asks("And now?")
    there.hears_all_of("You said: And now?")
    with suppress(Error):  # the tab may reload itself meanwhile, which aborts either call
        there.page.locator("body").evaluate("(body) => (body.dataset.is = 'old')")
        there.page.reload()
    expect(there.page.locator("body[data-is=old]")).to_have_count(0)
    there.hears_all_of("You said: And now?")
    expect(there.sign_in_form).to_have_count(0)
    assert maya.complaints() == []


@pytest.mark.long_run
def test_account_tells_here_too(app, person):
    account_tells(app, person)


@pytest.mark.long_run
def test_message_is_found_in_the_usage_here_too(person):
    message_is_found(person)


@pytest.mark.long_run
def test_admin_looks_after_people_and_exports_everything(app, open_rig, person):
    maya, admin = person(), person("admin")
    for one in (maya, admin):
        one.signs_up()
    with open_rig.connect() as rows:
        promotion = "update private.roles set role = 'admin' where user_id = (select id from auth.users where email = %s)"
        rows.execute(promotion, [admin.email])
    maya.asks("Count me in")
    maya.hears_all_of("You said:")
    admin.signs_out()  # a session knows its role for some seconds
    admin.signs_in()
    admin.visit("/admin")
    admin.sees("Active users")

    look_after(admin, maya)

    admin.visit("/data")
    with admin.page.expect_download() as download:
        admin.page.get_by_role("button", name="Export everything", exact=True).click()
    with ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert "manifest.json" in archive.namelist()
