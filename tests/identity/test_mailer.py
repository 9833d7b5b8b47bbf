"""The queue of mails: order, bounds, tries, limits, and logs."""

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.domain.addresses import NO_ADDRESS, EmailAddress, new_placeholder
from services.domain.mails import LoginRefused, Notice, NoticeKind
from services.identity.mailer import HourlyLimit, Mailer
from tests.identity.mails import DIGITS, FIREFOX, MAYA, a_mail, a_notice
from tests.stack.apps import until


@dataclass
class ScriptedSender:
    """Records mails, and waits before each while `gate` is closed; *outcomes* are raised or returned, one a call."""

    outcomes: list = field(default_factory=list)
    tried: list = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def send(self, mail):
        self.tried.append(mail)
        assert self.gate.wait(30)
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@contextmanager
def running(*outcomes, is_open=True, mails_an_hour=10_000, **options):
    """A mailer over a scripted sender."""
    sender = ScriptedSender([*outcomes])
    if is_open:
        sender.gate.set()
    mailer = Mailer(lambda: sender, mails_an_hour, retry_seconds=0.01, **options)
    try:
        yield mailer, sender
    finally:
        mailer.close()
        sender.gate.set()


def emptied(mailer):
    until(lambda: mailer.health().waiting == 0, within=20)


def busy(mailer, sender):
    """Have the sender wait in the middle of a mail."""
    mailer.send(a_notice())
    until(lambda: sender.tried, within=20)


def test_codes_of_known_devices_come_first_and_notices_last():
    with running(is_open=False) as (mailer, sender):
        busy(mailer, sender)
        mails = notice, stranger, known, second = (
            a_notice(is_known=True),
            a_mail(),
            a_mail(is_known=True),
            a_mail(),
        )
        assert all(map(mailer.send, mails))

        sender.gate.set()
        emptied(mailer)

    assert sender.tried[1:] == [known, stranger, second, notice]


@pytest.mark.parametrize("content", [None, Notice(NoticeKind.NEW_DEVICE)], ids=["code", "notice"])
def test_no_mail_goes_to_a_placeholder(content):
    with running() as (mailer, sender):
        assert not mailer.send(a_mail(content, address=new_placeholder()))
        assert not mailer.send(a_mail(content, address=NO_ADDRESS))

        assert mailer.send(a_mail(content, address=EmailAddress("maya@invalid.test")))
        emptied(mailer)

    assert [one.address for one in sender.tried] == ["maya@invalid.test"]


def test_mail_beyond_five_hundred_is_refused():
    with running(is_open=False) as (mailer, sender):
        busy(mailer, sender)
        assert all(mailer.send(a_mail()) for _ in range(499))

        assert not mailer.send(a_mail())
        assert mailer.health().waiting == 500


@pytest.mark.parametrize(
    ("of_waiting", "of_new"),
    [
        (a_notice, a_mail),
        (a_notice, partial(a_mail, is_known=True)),
        (a_mail, partial(a_mail, is_known=True)),
    ],
)
def test_full_queue_gives_way_to_a_higher_rank(of_waiting, of_new):
    waiting, new = of_waiting(), of_new()
    with running(is_open=False, most_waiting=3) as (mailer, sender):
        busy(mailer, sender)
        first = a_mail(is_known=True)
        assert mailer.send(first)
        assert mailer.send(waiting)

        assert mailer.has_room(is_known=new.is_known)
        assert mailer.send(new)
        assert not mailer.has_room(is_known=new.is_known)
        assert not mailer.send(waiting)
        sender.gate.set()
        emptied(mailer)

    assert sender.tried[1:] == [first, new]


def test_failed_mail_is_tried_until_it_is_taken():
    mail = a_mail()
    with running(ConnectionRefusedError(), TimeoutError()) as (mailer, sender):
        mailer.send(mail)
        emptied(mailer)

        assert sender.tried == [mail] * 3
        health = mailer.health()

    assert (health.last_failure, health.last_hour) == (
        "no connection, or an error of the server",
        1,
    )


@pytest.mark.parametrize("failure", [TimeoutError(), ValueError("a bug")])
def test_mail_after_a_failed_one_is_sent(failure):
    failed, mail = a_mail(is_known=True, seconds=0.3), a_mail()
    with running(failure) as (mailer, sender):
        mailer.send(failed)
        mailer.send(mail)
        until(lambda: mail in sender.tried, within=20)
        emptied(mailer)

    assert sender.tried[:2] == [failed, mail]


def test_mail_that_fails_goes_behind_newer_ones():
    slow, new = a_mail(), a_mail()
    # a second goes by at each look at the clock, so that the failed one is due at once
    with running(TimeoutError(), is_open=False, clock=count().__next__) as (mailer, sender):
        mailer.send(slow)
        until(lambda: sender.tried, within=20)
        mailer.send(new)
        sender.gate.set()
        emptied(mailer)

    assert [one is slow for one in sender.tried] == [True, False, True]


def test_newer_code_of_a_step_replaces_the_one_that_waits():
    step = uuid4()
    old, other, new = a_mail(step=step), a_mail(step=uuid4()), a_mail(step=step)
    with running(is_open=False) as (mailer, sender):
        busy(mailer, sender)
        for mail in (old, other, new):
            assert mailer.send(mail)
        sender.gate.set()
        emptied(mailer)

    assert sender.tried[1:] == [other, new]


def test_failed_code_is_not_sent_again_after_a_newer_one_of_its_step():
    step = uuid4()
    old, new = a_mail(step=step), a_mail(step=step)
    with running(TimeoutError(), is_open=False, clock=count().__next__) as (mailer, sender):
        mailer.send(old)
        until(lambda: sender.tried, within=20)
        mailer.send(new)
        sender.gate.set()
        emptied(mailer)

    assert sender.tried == [old, new]


def test_sender_that_does_not_open_is_opened_again():
    failures, opened = [ImportError("files are being updated")], []
    sender = SimpleNamespace(send=lambda mail: True)

    def open_sender():
        if failures:
            raise failures.pop()
        opened.append(sender)
        return sender

    mailer = Mailer(open_sender, 500, retry_seconds=0.01)
    for _ in range(2):
        assert mailer.send(a_mail())
        emptied(mailer)
    health = mailer.health()
    mailer.close()

    assert (len(opened), health.last_failure) == (1, "internal error, which the log names")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (LoginRefused(), "the server refused the login, or allows none by password"),
        (ssl.SSLError(), "no secure connection to the server"),
        (TimeoutError(), "no connection, or an error of the server"),
    ],
)
def test_last_failure_is_said_in_words(failure, words):
    with running(failure) as (mailer, _):
        mailer.send(a_mail())
        emptied(mailer)

        assert mailer.health().last_failure == words


def test_code_is_not_sent_after_its_life(caplog):
    caplog.set_level("INFO", "daybook")
    with running(*[TimeoutError()] * 1000) as (mailer, sender):
        mail = a_mail(seconds=0.3)
        mailer.send(mail)
        emptied(mailer)
        tries = len(sender.tried)
        mailer.send(a_mail(seconds=-1))
        emptied(mailer)

    assert len(sender.tried) == tries > 1
    assert [one.args[0] for one in caplog.records if "mail.dropped" in one.args[0]] == [
        '{"event": "mail.dropped", "kind": "sign_in"}'
    ] * 2


def test_undeliverable_mail_is_not_tried_again():
    with running(False) as (mailer, sender):
        mailer.send(a_mail())
        emptied(mailer)

    assert len(sender.tried) == 1


def test_strangers_leave_a_fifth_of_the_hour_to_known_devices():
    with running(mails_an_hour=10) as (mailer, _):
        assert [mailer.send(a_mail()) for _ in range(9)] == [True] * 8 + [False]
        assert [mailer.send(a_mail(is_known=True)) for _ in range(3)] == [True, True, False]

        health = mailer.health()
    assert (health.last_hour, health.at_most, health.for_known) == (10, 10, 2)


def test_notice_waits_for_the_next_hour_and_strangers_leave_it_a_place():
    """A thief may have so many codes mailed that no mail of the hour is left for the notice of the thief's sign-in."""
    now = [0.0]
    with running(mails_an_hour=10, clock=lambda: now[0]) as (mailer, sender):
        codes = [a_mail() for _ in range(8)]
        assert all(map(mailer.send, codes))
        notice = a_notice()
        assert mailer.send(notice)
        until(lambda: mailer.health().waiting == 1, within=20)
        assert sender.tried == codes

        now[0] = 3600.0
        assert [mailer.send(a_mail()) for _ in range(8)] == [True] * 7 + [False]
        emptied(mailer)

    assert notice in sender.tried


def test_waiting_notices_leave_known_devices_their_fifth_of_the_hour():
    with running(mails_an_hour=10) as (mailer, _):
        assert all(mailer.send(a_mail()) for _ in range(8))
        assert all(mailer.send(a_notice()) for _ in range(3))

        assert mailer.has_room(is_known=True)
        assert [mailer.send(a_mail(is_known=True)) for _ in range(3)] == [True, True, False]


def test_room_for_another_mail_is_that_of_the_hour():
    with running(mails_an_hour=10) as (mailer, _):
        assert mailer.has_room(is_known=False)
        for _ in range(8):
            mailer.send(a_mail())

        assert not mailer.has_room(is_known=False)
        assert mailer.has_room(is_known=True)


def test_hour_begins_with_each_mail():
    now = [0.0]
    limit = HourlyLimit(5, lambda: now[0])
    for now[0] in (0.0, 100.0, 200.0, 300.0):
        assert limit.has_room(is_known=False)
        limit.count(is_known=False)

    now[0] = 3599.0
    assert not limit.has_room(is_known=False)
    assert limit.has_room(is_known=True)
    now[0] = 3601.0
    assert limit.has_room(is_known=False)
    assert limit.used == 3


def test_logs_of_mails_have_kinds_and_classes_alone(caplog):
    caplog.set_level("DEBUG")
    secrets = DIGITS, MAYA, FIREFOX, "kumquat"
    words = f"{DIGITS} to {MAYA}: kumquat"
    with running(OSError(words), False, OSError(words), most_waiting=2) as (mailer, sender):
        mailer.send(a_mail())
        emptied(mailer)
        sender.gate.clear()
        busy(mailer, sender)
        mailer.send(a_mail(Notice(NoticeKind.WRONG_FACTORS)))
        mailer.send(a_notice())
        mailer.send(a_mail())
        sender.gate.set()
        emptied(mailer)

    told = [one.getMessage() for one in caplog.records]
    for event in ("failed", "sent", "undeliverable", "refused", "dropped"):
        assert any(f"mail.{event}" in line for line in told), event
    assert not [line for line in told for secret in secrets if secret in line]
    assert not [secret for secret in secrets if secret in repr([*sender.tried, mailer.health()])]
