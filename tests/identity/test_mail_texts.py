"""The words of mails."""

import re
from html import unescape

import pytest

from services.domain.browsers import BrowserName
from services.domain.mails import (
    HAS_INVITATION,
    Code,
    CodePurpose,
    Invited,
    NoCode,
    NoCodeReason,
    Notice,
    NoticeKind,
)
from services.identity.console_mail import ConsoleSender
from services.identity.mail_texts import text_of
from tests.identity.mails import DIGITS, FIREFOX, MAYA, a_mail

CODES = [Code(purpose, DIGITS) for purpose in CodePurpose]
OTHERS = [*map(NoCode, NoCodeReason), *map(Notice, NoticeKind)]
# also what a mail program would make a link of
LINK = re.compile(r"href|src=|://|www\.|\b[\w-]+\.[a-z]{2,}\b|mailto|tel:", re.IGNORECASE)


@pytest.mark.parametrize("content", [*CODES, *OTHERS], ids=lambda one: str(one))
def test_mail_says_when_and_where_and_has_no_link(content):
    mail = a_mail(content)
    text = text_of(mail)

    for words in (text.plain(), text.html()):
        assert f"{mail.at:%Y-%m-%d at %H:%M} UTC in {FIREFOX}." in words
        assert not LINK.search(words)
        assert (DIGITS in words) is (content in CODES)
    assert DIGITS not in text.subject


@pytest.mark.parametrize("content", CODES, ids=lambda one: one.purpose)
def test_code_says_what_it_does_and_that_it_is_asked_for_by_nobody(content):
    text = text_of(a_mail(content)).plain()

    assert re.match(r"Use this code to ", text)
    assert f"\n\n{DIGITS}\n\n" in text
    assert "Nobody from Daybook will ever ask you for this code." in text


def test_contents_differ_in_their_words():
    texts = [text_of(a_mail(content)) for content in (*CODES, *OTHERS)]

    assert len({text.subject for text in texts}) == len({text.plain() for text in texts}) == 29


def test_invitation_names_maker_host_and_code_and_has_no_link():
    invited = Invited(code="Xk3-code", host="chat.example.org", by=MAYA)
    text = text_of(a_mail(invited))

    for words in (text.plain(), text.html()):
        assert f"{MAYA} invites you to Daybook at chat.example.org." in words
        assert "Xk3-code" in words
        assert f"Open chat.example.org in your browser, choose “{HAS_INVITATION}”" in words
        assert not re.search(r"href|src=|://|www", words)
    assert "Xk3-code" not in text.subject


def test_html_says_the_same_as_the_text_and_is_escaped():
    text = text_of(a_mail(Code(CodePurpose.SIGN_IN, "<b>1"), browser=BrowserName("<script>&\"'")))

    html = text.html()
    assert "<script>" not in html
    assert "<b>" not in html
    shown = [unescape(one) for one in re.findall(r"<p.*?>(.*?)</p>", html)]
    assert "\n\n".join(shown) == text.plain().strip()


def test_command_of_an_operator_has_no_browser():
    text = text_of(a_mail(Notice(NoticeKind.OPERATOR), browser=None)).plain()

    assert re.search(r"When: \S+ at \S+ UTC\.\n", text)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (CODES[1], f"Mail to {MAYA}: Your code to sign in: {DIGITS}"),
        (OTHERS[0], f"Mail to {MAYA}: You already have an account"),
    ],
)
def test_console_shows_the_address_and_the_code(content, line):
    lines = []

    assert ConsoleSender(lines.append).send(a_mail(content))

    assert lines == [line]


def test_mail_to_a_reserved_former_address_says_how_it_is_taken_back():
    assert "“Undo a change of email address”" in text_of(a_mail(NoCode(NoCodeReason.TAKEN))).plain()
