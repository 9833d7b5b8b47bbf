"""Notices about the ways into an account, at the top of each page until they are dismissed."""

import re

import pytest

from services import bootstrap
from services.domain.browsers import BrowserName
from services.domain.mails import NoticeKind
from services.store.notices import new_notice, operator_notice
from tests.pages.conftest import html, press

FIREFOX = BrowserName("Firefox on Linux")
SHOWN = {*NoticeKind} - {NoticeKind.FORMER_ADDRESS, NoticeKind.ACCOUNT_DELETED}  # mailed alone


@pytest.fixture
def tell(database, maya):
    """Store a notice to Maya."""

    def tell(kind=NoticeKind.NEW_DEVICE):
        notice = new_notice(kind, maya.user_id, maya.keys, FIREFOX)
        database.backend.add_notice(maya.user_id, notice, ())

    return tell


def shown(app):
    """The notices that a page shows: what happened, and the rest of it."""
    found = re.findall(
        r'<p role="status"><strong>(.*?)</strong> <span>(.*?)</span>(?:<br>(.*?))?</p>', html(app)
    )
    return [(title, when, re.sub("<.*?>", "", advice)) for title, when, advice in found]


def titles(app):
    return [title for title, *_ in shown(app)]


@pytest.mark.parametrize("page", ["chat", "memory", "usage", "data", "account", "admin"])
def test_notice_is_shown_on_each_page(open_app, maya, tell, page):
    tell()

    app = open_app(maya)
    if page != "chat":
        app.switch_page(f"pages/{page}.py").run()

    [(title, when, advice)] = shown(app)
    assert title == "New sign-in to your account"
    assert when.endswith(f", in {FIREFOX}")
    assert advice.startswith("Not you? Check your sign-in methods, password (if you have one)")


def test_notice_is_gone_once_it_is_dismissed(open_app, maya, tell):
    tell()
    tell(NoticeKind.FACTOR_REMOVED)
    app = open_app(maya)

    press(app, "Dismiss")

    assert titles(app) == titles(open_app(maya)) == ["New sign-in to your account"]


def test_card_names_the_gravest_and_how_many_more_there_are(open_app, maya, tell):
    for kind in (NoticeKind.PASSKEY_COPIED, NoticeKind.FACTOR_REMOVED, NoticeKind.NEW_DEVICE):
        for _ in range(3):
            tell(kind)

    app = open_app(maya)

    assert titles(app) == ["A passkey was refused"]
    assert [button.label for button in app.button].count("Dismiss") == 1
    press(app, "Dismiss")
    assert titles(app) == ["A passkey was refused"]
    press(app, "and 7 more")
    assert len(shown(app)) == 8
    assert [advice[:8] for *_, advice in shown(app)] == ["A copy o", "", "Not you?", *[""] * 5]
    press(app, "Show less")
    assert titles(app) == ["A passkey was refused"]


def test_notice_that_came_after_unfolding_is_not_dismissed(open_app, maya, tell):
    tell()
    tell(NoticeKind.FACTOR_REMOVED)
    app = open_app(maya)
    press(app, "and 1 more")
    tell(NoticeKind.PASSKEY_ADDED)

    app.run()

    assert titles(app) == ["Your authenticator app was turned off", "New sign-in to your account"]
    press(app, "Dismiss")
    assert titles(app) == ["A passkey was added"]


def test_command_of_an_operator_names_no_browser(open_app, maya, database):
    database.backend.add_notice(maya.user_id, operator_notice(), ())

    [(title, when, _)] = shown(open_app(maya))

    assert title == "An admin changed how you sign in"
    assert "in " not in when


@pytest.mark.parametrize("kind", [*sorted(SHOWN), NoticeKind("newer_kind")])
def test_each_notice_says_what_to_do(open_app, maya, tell, kind):
    tell(kind)

    [(title, _, advice)] = shown(open_app(maya))

    assert ("newer version" in title) is not kind.is_known
    assert " on Account" in advice


def test_notice_that_the_page_has_read_joins_the_card(open_app, maya, tell, monkeypatch):
    tell()
    tell(NoticeKind.FACTOR_REMOVED)
    removed, new_device = maya.notices
    reads = [[new_device], [removed, new_device]]  # before the page, and after it
    monkeypatch.setattr(type(maya), "notices", property(lambda _: reads.pop(0)))

    app = open_app(maya)

    assert titles(app) == ["Your authenticator app was turned off"]
    assert [button.label for button in app.button].count("Dismiss") == 1
    assert "and 1 more" in [button.label for button in app.button]


def test_nothing_is_told_without_sign_in(open_app, maya, tell):
    tell()
    bootstrap.current_app().is_alone = True

    app = open_app(maya)

    assert shown(app) == []
