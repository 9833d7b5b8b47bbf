"""What is recorded of an account: changes and failures in the audit, and notices until they are dismissed."""

from collections import Counter
from dataclasses import replace
from uuid import uuid4

import pytest

from services.domain import AccountRole, UserId
from services.domain.accounts import Failure
from services.domain.browsers import UNKNOWN_BROWSER, BrowserName
from services.domain.mails import NoticeKind
from services.errors import StoreUnavailable, TooManyAttempts
from services.operate.accounts import free_address
from services.store.backend import Throttle
from services.store.device_names import Browser, opened_activity
from services.store.notices import new_notice, opened_notice
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conftest import PASSWORD

FIREFOX, CHROME = BrowserName("Firefox on Linux"), BrowserName("Chrome on Linux")
NEW_DEVICE, REMOVED = NoticeKind.NEW_DEVICE, NoticeKind.FACTOR_REMOVED


def add(user, kind=NEW_DEVICE, throttles=(), *, session=None):
    """Store a notice to *user*; return its id."""
    notice = new_notice(kind, user.id, user.session.user_keys, FIREFOX, session)
    user.deployment.accounts.backend.add_notice(user.id, notice, throttles)
    return notice.id


def shown(user):
    """The notices that *user* sees in the session, by their ids."""
    return [one.id for one in user.account().notices]


def failures(user):
    """The failures in the audit of *user*, with their counts, by kind: of all hours, as a test may begin just before the next."""
    entries = [one for one in user.usage.account_changes() if one.is_failure]
    assert all(one.actor is None and list(one.detail) == ["count"] for one in entries)
    assert len({(one.action, hour(one.at)) for one in entries}) == len(entries)
    counts = Counter()
    for one in entries:
        counts[one.action] += one.detail["count"]
    return sorted(counts.items())


def hour(at):
    return at.replace(minute=0, second=0, microsecond=0)


# --- changes


def activity(user):
    """What *user* sees of the audit: the actions with their browsers, the newest first."""
    keys, rows = user.session.user_keys, user.usage.account_changes()
    opened = [opened_activity(keys, user.id, row) for row in rows]
    return [(entry.action, entry.browser) for entry in opened]


def test_change_of_the_own_account_names_its_browser(deployment):
    maya = deployment.sign_up(browser=Browser(name=FIREFOX))
    other = maya.sign_in(browser=Browser(name=CHROME))
    other.session.backend.end_device(maya.session.id)
    deployment.accounts.change_with(other.session, PASSWORD, "another horse, another battery")

    assert activity(other)[:2] == [("password.set", CHROME), ("session.revoke", CHROME)]
    assert {row.session for row in other.usage.account_changes()[:2]} == {other.session.id}
    assert CHROME not in deployment.stored_text()


def test_browser_of_a_change_is_known_after_its_session(deployment, maya):
    other = maya.sign_in(browser=Browser(name=CHROME))
    other.session.backend.end_other_devices()
    again = maya.sign_in()

    again.session.backend.end_device(other.session.id)

    assert activity(again)[:2] == [("session.revoke", None), ("session.revoke", CHROME)]


def test_browser_of_a_change_is_moved_to_no_other_session(deployment, maya):
    other = maya.sign_in(browser=Browser(name=CHROME))
    other.session.backend.end_other_devices()

    row, keys = other.usage.account_changes()[0], other.session.user_keys
    moved = replace(row, session=maya.session.id)
    assert opened_activity(keys, maya.id, moved).browser == UNKNOWN_BROWSER


def test_change_by_another_and_a_failure_name_no_browser(deployment, admin, maya):
    ruth = admin.sign_in(browser=Browser(name=FIREFOX))
    ruth.administration.set_role(maya.id, AccountRole.ADMIN)
    deployment.accounts.backend.note_failure(maya.id, Failure.FACTOR)
    deployment.give_role(maya, AccountRole.USER)

    rows = [row for row in maya.usage.account_changes() if row.actor != "You"]

    assert {row.action for row in rows} >= {"role.set", Failure.FACTOR}
    assert {(row.session, row.device) for row in rows} == {(None, None)}


# --- failures


def test_failures_of_a_user_are_counted_by_kind(deployment, maya, omar):
    backend = deployment.accounts.backend

    for failure in (Failure.PROOF, Failure.FACTOR, Failure.PROOF):
        backend.note_failure(maya.id, failure)
    backend.note_failure(omar.id, Failure.PROOF)

    assert failures(maya) == [(Failure.FACTOR, 1), (Failure.PROOF, 2)]
    assert failures(omar) == [(Failure.PROOF, 1)]


def test_entry_of_failures_has_the_time_of_the_first(deployment, maya):
    times = []
    for _ in range(2):
        deployment.accounts.backend.note_failure(maya.id, Failure.CHANGE)
        times += [one.at for one in maya.usage.account_changes() if one.is_failure]

    assert len(set(times)) == len({hour(at) for at in times})


def test_failures_at_the_same_time_are_all_counted(deployment, maya):
    processes = [deployment.process() for _ in range(4)]

    at_once(
        *(lambda one=one: one.backend.note_failure(maya.id, Failure.RESET) for one in processes)
    )

    assert failures(maya) == [(Failure.RESET, 4)]


def test_admin_sees_whose_failures_were_counted(deployment, admin, maya):
    deployment.accounts.backend.note_failure(maya.id, Failure.SIGN_IN)

    entries = [one for one in admin.administration.audit() if one.target == maya.email]
    [entry] = [one for one in entries if one.is_failure]
    assert (entry.action, entry.actor, entry.detail) == (Failure.SIGN_IN, None, {"count": 1})


def test_what_is_no_failure_is_not_counted(deployment, maya):
    before = maya.usage.account_changes()

    with pytest.raises((ValueError, StoreUnavailable)):
        deployment.accounts.backend.note_failure(maya.id, "session.prove")

    assert maya.usage.account_changes() == before


def test_nothing_is_recorded_of_an_account_that_is_none(deployment, admin, maya):
    def entries():
        return [(entry.id, entry.detail) for entry in admin.administration.audit()]

    deployment.accounts.backend.note_failure(maya.id, Failure.PROOF)
    maya.administration.delete(maya.id)
    before = entries()

    for user_id in (maya.id, UserId(uuid4())):
        deployment.accounts.backend.note_failure(user_id, Failure.PROOF)
        notice = new_notice(NEW_DEVICE, user_id, maya.session.user_keys, FIREFOX)
        deployment.accounts.backend.add_notice(user_id, notice, ())
        assert notice.browser not in deployment.stored_text()

    assert entries() == before


# --- notices


def test_notice_is_shown_until_it_is_dismissed(deployment, maya):
    first, second = add(maya), add(maya, REMOVED)
    other = maya.sign_in()

    kinds = [(one.id, one.kind) for one in maya.account().notices]
    assert kinds == [(second, REMOVED), (first, NEW_DEVICE)]
    assert shown(other) == [second, first]

    other.session.backend.dismiss_notices([second])
    other.session.backend.dismiss_notices([second])  # in another tab

    assert shown(maya) == shown(other) == [first]


def test_notice_names_its_browser_to_its_user_alone(deployment, maya, omar):
    add(maya)

    [row] = maya.account().notices

    assert FIREFOX not in deployment.stored_text()
    assert opened_notice(maya.session.user_keys, maya.id, row).browser == FIREFOX
    for keys, user_id in ((omar.session.user_keys, maya.id), (maya.session.user_keys, omar.id)):
        assert opened_notice(keys, user_id, row).browser == UNKNOWN_BROWSER


def test_notice_without_the_keys_of_its_user_names_no_browser(deployment, maya):
    notice = new_notice(NoticeKind.WRONG_FACTORS, maya.id, None, FIREFOX)
    deployment.accounts.backend.add_notice(maya.id, notice, ())

    [row] = maya.account().notices

    opened = opened_notice(maya.session.user_keys, maya.id, row)
    assert (opened.id, opened.kind, opened.browser) == (notice.id, notice.kind, None)


def test_notice_is_neither_shown_nor_dismissed_where_it_was_made(deployment, maya):
    other = maya.sign_in()
    notice = add(maya, session=other.session.id)

    other.session.backend.dismiss_notices([notice])

    assert shown(other) == []
    assert shown(maya) == [notice]


BEFORE = {  # what a browser has of the session before
    "cookie": lambda user: {"cookie_before": user.cookie.hash},
    "device": lambda user: {"last": (user.id, user.session.id)},
}


def again(user, before):
    """The user in one more session of a browser, which has *before* of the session of *user*."""
    return user.sign_in(browser=Browser(name=FIREFOX, **before(user)))


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_session_that_follows_shows_a_notice_after_ten_minutes(deployment, maya, before):
    notice = add(maya, session=maya.session.id)
    following = again(maya, before)

    following.session.backend.dismiss_notices([notice])
    assert shown(following) == []
    assert shown(maya.sign_in()) == shown(again(following, before)) == [notice]

    deployment.let_pass(601)
    assert shown(following) == [notice]
    assert shown(maya) == []


def test_session_follows_none_of_another_user(deployment, maya, omar):
    notice = add(maya, session=maya.session.id)
    by_cookie, by_device = Browser(name=FIREFOX, cookie_before=omar.cookie.hash), omar.id
    follows = {"last": (maya.id, maya.session.id)}

    assert shown(maya.sign_in(browser=replace(by_cookie, **follows))) == []
    other = Browser(name=FIREFOX, last=(by_device, maya.session.id))
    assert shown(maya.sign_in(browser=other)) == [notice]


def test_notice_of_another_user_is_neither_shown_nor_dismissed(deployment, maya, omar):
    notice = add(maya)

    omar.session.backend.dismiss_notices([notice])

    assert shown(omar) == []
    assert shown(maya) == [notice]


def test_fourth_notice_of_a_kind_takes_the_place_of_the_oldest(deployment, maya):
    removed = add(maya, REMOVED)
    first, *others = [add(maya) for _ in range(4)]

    assert shown(maya) == [*reversed(others), removed]
    assert first not in shown(maya)


def test_notice_is_stored_where_its_mail_is_refused(deployment, maya):
    throttle = Throttle(uuid4().hex * 2, 1, 60)
    add(maya, throttles=[throttle])

    with pytest.raises(TooManyAttempts):
        add(maya, throttles=[throttle])

    assert len(shown(maya)) == 2


def test_first_page_has_the_notices(deployment, maya):
    notice = add(maya)

    first = maya.sign_in().session.backend.first_page()

    brought = [one.id for one in first.account.notices] if first else None
    assert brought == ([notice] if deployment.brings_first_page else None)


def test_command_of_an_operator_is_told(deployment, admin, maya):
    placeholder = free_address(deployment.operator, deployment.accounts.root_keys, maya.email)

    [notice] = replace(maya, email=placeholder).sign_in().account().notices

    assert (notice.kind, notice.browser) == (NoticeKind.OPERATOR, None)


def test_notice_of_a_newer_version_does_not_keep_an_account_from_being_read(deployment, maya):
    add(maya, NoticeKind("newer_kind"))

    [notice] = maya.account().notices

    assert (notice.kind, notice.kind.is_known) == ("newer_kind", False)


def test_notices_go_with_the_account(deployment, maya):
    add(maya)
    browser = maya.account().notices[0].browser
    assert browser in deployment.stored_text()

    maya.administration.delete(maya.id)
    deployment.sweep()

    assert browser not in deployment.stored_text()
