"""Throttles of attempts to sign in or sign up, device cookies, and the time of a refusal."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.crypto import RootKeys, new_key
from services.domain import UserId
from services.domain.mails import CodePurpose, NoticeKind
from services.errors import WrongCredentials
from services.rules.accounts import FORMER_LIFE
from services.web.attempts import DEVICE_SECONDS, Attempts

MAYA, OMAR = "maya@daybook.test", "omar@daybook.test"
HERS, OTHERS = UserId(uuid4()), UserId(uuid4())
HOME = "192.0.2.1"
NOW = datetime.now(UTC)
SIGN_IN, RESET = CodePurpose.SIGN_IN, CodePurpose.RESET_PASSWORD
BACK = CodePurpose.RESTORE_ADDRESS


class Clock:
    """A clock that moves only while a task sleeps or works."""

    now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def make(**changes):
    changes = {"sign_ups_an_hour": 20} | changes
    return Attempts(RootKeys({1: new_key()}, current=1), **changes)


def answered_at(work_seconds, error=None, delay=Attempts.delay_refusals):
    """Return the time of the answer to an attempt that takes *work_seconds*."""
    clock = Clock()
    attempts = make(clock=clock, sleep=clock.sleep)

    async def attempt():
        async with delay(attempts):
            await clock.sleep(work_seconds)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            asyncio.run(attempt())
    else:
        asyncio.run(attempt())
    return clock.now


@pytest.mark.parametrize(
    ("work_seconds", "seconds"), [(0.022, 0.4), (0.39, 0.4), (0.5, 0.8), (20.1, 20.4)]
)
def test_refusal_leaves_at_a_multiple_of_its_slot(work_seconds, seconds):
    assert answered_at(work_seconds, WrongCredentials()) == pytest.approx(seconds)


def test_right_sign_in_is_answered_at_once():
    assert answered_at(0.25) == 0.25


@pytest.mark.parametrize("error", [None, WrongCredentials()])
@pytest.mark.parametrize(("work_seconds", "seconds"), [(0.022, 0.4), (0.5, 0.8)])
def test_answer_about_a_code_leaves_at_a_multiple_of_its_slot(error, work_seconds, seconds):
    at = answered_at(work_seconds, error, Attempts.delay_answers)

    assert at == pytest.approx(seconds)


def test_bug_is_not_delayed():
    assert answered_at(0.25, ZeroDivisionError()) == 0.25


def buckets(throttles):
    return [(one.bucket, one.at_most, one.seconds) for one in throttles]


def test_account_is_counted_across_addresses():
    attempts = make()
    *_, here = attempts.sign_in(MAYA, HOME, "").strangers
    *_, elsewhere = attempts.sign_in(MAYA, "198.51.100.7", "").strangers
    *_, other = attempts.sign_in(OMAR, HOME, "").strangers

    assert here == elsewhere
    assert (here.at_most, here.seconds) == (10, 900)
    assert other.bucket != here.bucket


def test_address_is_counted_across_accounts():
    attempts = make(sign_ups_an_hour=2)
    hers, his = (attempts.sign_in(email, HOME, "").strangers[0] for email in (MAYA, OMAR))
    (sign_up,) = attempts.sign_up(HOME).strangers
    (step,) = attempts.step(HOME)

    assert hers == his
    assert (hers.at_most, hers.seconds) == (60, 900)
    assert (sign_up.at_most, sign_up.seconds) == (2, 3600)
    assert (step.at_most, step.seconds) == (60, 900)
    assert len({hers.bucket, sign_up.bucket, step.bucket}) == 3


def test_passkey_is_counted_by_its_network_alone():
    attempts = make()
    network, _ = attempts.sign_in(MAYA, HOME, "").strangers

    assert attempts.sign_in(None, HOME, "").strangers == (network,)


def test_network_of_ipv6_is_counted_as_one_and_as_eight_addresses():
    attempts = make(sign_ups_an_hour=2)
    here, subnet, home, away = (
        attempts.sign_in(MAYA, f"2001:db8:{network}::1", "").strangers
        for network in ("0:10", "0:10:0:9", "0:11", "1:0")
    )

    assert [one.at_most for one in here] == [60, 480, 10]
    assert here == subnet
    assert [one in home for one in here] == [False, True, True]
    assert [one in away for one in here] == [False, False, True]
    assert [one.at_most for one in attempts.sign_up("2001:db8::1").strangers] == [2, 16]


def test_known_device_is_counted_by_itself():
    attempts = make()
    stranger = attempts.sign_in(MAYA, HOME, "")
    phone, desk = (
        attempts.sign_in(MAYA, HOME, attempts.device_cookie(HERS, uuid4()))
        for _ in ("phone", "desk")
    )

    assert (stranger.device_user, stranger.device) == (None, ())
    assert phone.device_user == desk.device_user == HERS
    # its throttle counts where the account is that of its user, which only the database knows
    assert phone.strangers == desk.strangers == stranger.strangers
    ((of_phone, *limits),) = buckets(phone.device)
    ((of_desk, *_),) = buckets(desk.device)
    assert limits == [10, 900]
    assert len({of_phone, of_desk, *(one.bucket for one in stranger.strangers)}) == 4


def test_code_counts_its_step_its_network_and_its_address():
    attempts = make(codes_an_hour=20)
    step, other = uuid4(), uuid4()
    *of_network, of_step = attempts.step(HOME, step)
    *same_network, again = attempts.step(HOME, other)
    others = attempts.code(MAYA, "2001:db8::1", "", SIGN_IN).strangers
    elsewhere = attempts.code(MAYA, HOME, "", SIGN_IN).strangers
    *_, his_hour, his_day = attempts.code(OMAR, HOME, "", SIGN_IN).strangers

    assert [(one.at_most, one.seconds) for one in (of_step, *others)] == [
        (1, 60),
        (20, 3600),
        (160, 3600),
        (5, 3600),
        (15, 86400),
    ]
    assert tuple(of_network) == tuple(same_network) == attempts.step(HOME)
    assert of_step != again
    assert others[-2:] == elsewhere[-2:]
    assert (
        len({one.bucket for one in (of_step, again, *others, *elsewhere, his_hour, his_day)}) == 9
    )


def test_code_on_a_known_device_counts_there_alone():
    attempts = make()
    phone, desk = (attempts.device_cookie(HERS, uuid4()) for _ in ("phone", "desk"))

    on_phone, on_desk = (attempts.code(MAYA, HOME, device, SIGN_IN) for device in (phone, desk))
    (of_phone, of_both), (of_desk, same) = on_phone.device, on_desk.device

    # they count where the account is that of the device's user, which only the database knows
    assert on_phone.device_user == on_desk.device_user == HERS
    assert same == of_both
    assert (of_both.at_most, of_both.seconds) == (15, 3600)
    assert (of_phone.at_most, of_phone.seconds) == (5, 3600)
    assert of_phone != of_desk
    stranger = attempts.code(MAYA, HOME, "", SIGN_IN)
    assert (stranger.device_user, stranger.device) == (None, ())
    assert on_phone.strangers == stranger.strangers
    assert not {of_phone, of_desk, of_both} & {*stranger.strangers}


@pytest.fixture
def wait(monkeypatch):
    """Stop the clock of device cookies, and let *seconds* pass since then."""
    now = time.time()

    def wait(seconds):
        monkeypatch.setattr("services.web.attempts.time.time", lambda: now + seconds)

    wait(0)  # else a device may be a second younger than the wait
    return wait


@pytest.mark.parametrize("purpose", [RESET, BACK])
def test_device_of_a_thief_counts_as_stranger_for_the_way_back(wait, purpose):
    """A device that signed in after a password was learnt could use up the codes of the user's own devices."""
    attempts, seconds = make(), FORMER_LIFE.total_seconds()
    thief = attempts.device_cookie(HERS, uuid4())
    wait(seconds - 1)
    stranger = attempts.code(MAYA, HOME, "", purpose)

    assert attempts.code(MAYA, HOME, thief, purpose) == stranger
    assert attempts.code(MAYA, HOME, thief, SIGN_IN).device_user == HERS

    wait(seconds)
    # the same device, after another sign-in; one that another user used before is a new one
    again = attempts.device_cookie(HERS, uuid4(), thief)
    own, after_another = (
        attempts.code(MAYA, HOME, device, purpose)
        for device in (
            again,
            attempts.device_cookie(HERS, uuid4(), attempts.device_cookie(OTHERS, uuid4(), thief)),
        )
    )
    assert own.device_user == HERS
    assert own.strangers == stranger.strangers
    assert after_another == stranger


def test_other_codes_use_up_none_that_take_an_address_back(wait):
    attempts = make()
    device = attempts.device_cookie(HERS, uuid4())
    wait(FORMER_LIFE.total_seconds())
    sign_in, reset, back = (
        attempts.code(MAYA, HOME, device, purpose) for purpose in (SIGN_IN, RESET, BACK)
    )

    assert not {*back.strangers} & {*sign_in.strangers, *reset.strangers}
    assert reset.strangers == sign_in.strangers
    assert [(one.at_most, one.seconds) for one in back.strangers] == [
        (one.at_most, one.seconds) for one in sign_in.strangers
    ]
    assert len({one.bucket for kind in (sign_in, reset, back) for one in kind.device}) == 6


@pytest.mark.parametrize("user_id", [None, UserId(uuid4())])
def test_device_of_another_user_is_a_stranger(user_id):
    attempts = make()
    device = attempts.device_cookie(HERS, uuid4())

    assert attempts.is_known(device, HERS)
    assert not attempts.is_known(device, user_id)
    assert not attempts.is_known("", None)


def test_device_remembers_who_signed_in_before_its_last_user(wait):
    attempts = make()
    device = attempts.device_cookie(OTHERS, uuid4(), attempts.device_cookie(HERS, uuid4()))

    assert attempts.has_signed_in(device, HERS)
    assert attempts.has_signed_in(device, OTHERS)
    assert not attempts.has_signed_in(device, UserId(uuid4()))
    assert not attempts.has_signed_in("", HERS)
    assert not attempts.is_known(device, HERS)

    wait(DEVICE_SECONDS - 1)
    device = attempts.device_cookie(OTHERS, uuid4(), device)
    assert attempts.has_signed_in(device, HERS)
    wait(DEVICE_SECONDS)
    assert not attempts.has_signed_in(device, HERS)
    assert attempts.has_signed_in(device, OTHERS)


def test_device_cookie_names_the_session_of_its_last_user():
    attempts, session, own = make(), uuid4(), uuid4()
    device = attempts.device_cookie(HERS, session)

    assert attempts.last_session(device) == (HERS, session)
    assert attempts.last_session(attempts.device_cookie(OTHERS, own, device)) == (OTHERS, own)
    assert attempts.last_session(device[:-1]) is None


def test_device_cookie_forgets_users_of_long_ago(wait):
    attempts = make()
    device = attempts.device_cookie(HERS, uuid4())
    for days in (60, 120):
        wait(days * 86400)
        device = attempts.device_cookie(OTHERS, uuid4(), device)

    assert HERS.hex not in device


def test_device_cookie_without_earlier_users_is_read():
    attempts = make()
    fields, _, _ = attempts.device_cookie(HERS, uuid4()).rpartition(".")
    fields = fields.rpartition(".")[0]  # as before the cookie named earlier users

    assert attempts.has_signed_in(f"{fields}.{attempts.root_keys.device_tag(fields)}", HERS)


def test_device_cookie_names_its_last_five_users(wait):
    attempts, device = make(), ""
    users = [UserId(uuid4()) for _ in range(7)]
    for second, user in enumerate(users):
        wait(second)
        device = attempts.device_cookie(user, uuid4(), device)

    assert [attempts.has_signed_in(device, user) for user in users] == [False] * 2 + [True] * 5
    assert len(device) < 400


def test_factor_is_counted_by_user_and_state_for_strangers():
    def of(user_id, state="1", device="", attempts=make()):  # noqa: B008 (one for all calls)
        return buckets(attempts.factor(user_id, device, since=NOW, state=state, is_former=False))

    hour, day = of(HERS)
    assert (hour[1:], day[1:]) == ((10, 3600), (30, 86400))
    assert len({hour, day, *of(HERS, "2"), *of(OTHERS)}) == 6


def test_factor_on_a_device_that_has_given_it_counts_there_alone(wait):
    attempts = make()

    def of(device, since, *, is_former=False, user_id=HERS):
        options = {"since": since, "state": "1", "is_former": is_former}
        return attempts.factor(user_id, device, **options)

    before = attempts.device_cookie(HERS, uuid4())
    since = datetime.fromtimestamp(time.time() + 1, UTC)
    wait(2)
    given = attempts.device_cookie(HERS, uuid4(), before)

    assert buckets(of(given, since))[0][1:] == (10, 3600)
    assert len(of(given, since)) == 1
    assert of(before, since) == of("", since)
    assert of(given, since, user_id=OTHERS) == of("", since, user_id=OTHERS)
    assert of(given, since, is_former=True) == of("", since)
    wait(FORMER_LIFE.total_seconds() + 2)
    assert of(given, since, is_former=True) == of(given, since)


def test_notice_is_counted_by_kind_and_user():
    attempts = make()
    new, again, removed, his = (
        attempts.notice(kind, user_id)
        for kind, user_id in (
            (NoticeKind.NEW_DEVICE, HERS),
            (NoticeKind.NEW_DEVICE, HERS),
            (NoticeKind.FACTOR_REMOVED, HERS),
            (NoticeKind.NEW_DEVICE, UserId(uuid4())),
        )
    )

    assert new == again
    assert (new.at_most, new.seconds) == (1, 3600)
    assert len({new.bucket, removed.bucket, his.bucket}) == 3


def test_device_cookie_names_its_user_until_it_expires(monkeypatch):
    attempts = make()
    cookie = attempts.device_cookie(HERS, uuid4())
    fields, _, tag = cookie.rpartition(".")

    assert attempts.device_user(cookie) == HERS
    forged = fields.replace(HERS.hex, uuid4().hex)
    for unknown in (
        make().device_cookie(HERS, uuid4()),
        f"{forged}.{tag}",
        f"{fields}0.{tag}",
        f"{fields}.{tag[:-1]}",
        *("", ".", "..", "\xfc"),
    ):
        assert attempts.device_user(unknown) is None
    later = time.time() + DEVICE_SECONDS
    monkeypatch.setattr("services.web.attempts.time.time", lambda: later)
    assert attempts.device_user(cookie) is None
