"""Processes come and go: a killed one, started again, and a second one beside the first."""

import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.journeys.seeds import database
from tests.stack.apps import ROOT, running, until

SLOWLY = "[[tokens=40 rate=12]]"


def test_a_reply_that_a_kill_interrupted_is_kept_and_can_be_asked_for_again(make_app, person):
    prompt = "Tell me all [[tokens=400 rate=12 times=1]]"  # the second time it is repeated, whole
    with running(make_app("killed")) as app:
        app.until_ready()
        maya = person(url=app.url)
        maya.signs_up()
        maya.asks("Before")
        maya.hears_all_of("You said: Before")
        maya.asks(prompt)
        until(lambda: has_a_partial_reply(app))
        maya.hears("word10")
        app.kill()
    with running(make_app("killed", base=app.base, port=app.port)) as again:
        again.until_ready()

        maya.sees("The server stopped during this reply.")  # the tab comes back by itself
        assert maya.texts()[:3] == ["Before", "You said: Before", prompt]
        assert re.fullmatch(r"word1 word2 .*word\d+", maya.texts()[3])
        maya.retries()

        maya.hears_all_of("You said: Tell me all")
        maya.page.reload()
        maya.hears_all_of("You said: Tell me all")
        assert len(maya.texts()) == 4


def has_a_partial_reply(app):
    with database(app) as rows:
        found = rows.execute("select count(*) from public.turns where partial is not null")
        return found.fetchone()[0] > 0


@pytest.fixture(scope="module")
def second(app, make_app):
    """Another process of the deployment of *app*, as an operator would start it."""
    asked = subprocess.run(
        [sys.executable, "-m", "services.operate", "address"],
        cwd=ROOT,
        env=os.environ | {"DAYBOOK_DATA_DIR": str(app.data), "DAYBOOK_KEY_DIR": str(app.keys)},
        capture_output=True,
        text=True,
        check=True,
    )
    secrets = {"DAYBOOK_ROOT_KEYS": (app.keys / "root.key").read_text()}
    address = dict(line.split("=", 1) for line in asked.stdout.splitlines())
    with running(make_app("second", environment=address | secrets)) as process:
        process.until_ready()
        yield process


def test_a_second_process_opens_the_same_cookie_and_follows_the_same_reply(app, second, person):
    maya = person()
    maya.arrives()
    maya.asks(f"From the first {SLOWLY}")
    maya.hears("word2")

    there = maya.new_tab(second.url)  # a cookie does not know of ports
    there.visit(f"/?c={maya.conversation_id}")

    there.hears("word3")
    for tab in (maya, there):
        tab.hears_all_of(re.compile("word1 .*word40"))
    there.asks("From the second")
    there.hears_all_of("You said: From the second")
    maya.page.reload()
    maya.hears_all_of("You said: From the second")
    assert maya.texts() == there.texts()

    there.signs_out()
    maya.is_signed_out_before_long()


def test_a_stranger_is_nobody_at_the_second_process_as_well(app, second, person):
    maya, omar = person(), person("omar", url=second.url)
    maya.arrives()
    maya.asks("The key is under the flowerpot")
    maya.hears_all_of("You said:")
    omar.arrives()

    omar.visit(f"/?c={maya.conversation_id}")

    omar.sees("This chat does not exist.")
    expect(omar.rows).to_have_count(0)
