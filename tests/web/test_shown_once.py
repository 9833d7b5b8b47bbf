"""The pages that are shown once: what they hold, escaped, in answers that browsers do not store."""

import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from services.crypto.recovery_codes import new_codes
from services.domain.addresses import EmailAddress
from services.identity.totp import secret_text
from services.web.shown_once import (
    Enrolment,
    RecoveryCodes,
    ShownOnce,
    enrol_page,
    recovery_page,
    shown_page,
)

SECRET = b"12345678901234567890"
HOSTILE = "\"'><script>alert(1)</script>&amp;<b onclick=x>"
ENROLMENT = Enrolment(
    secret=SECRET,
    address=EmailAddress("maya@daybook.test"),
    action="/factor/enrol",
    hidden={"step": "a-step", "next": "/?c=1&x=2"},
    cancel="/account",
)
RECOVERY = RecoveryCodes(
    codes=new_codes(), address=EmailAddress("maya@daybook.test"), target="/account?a=1&b=2"
)
PAGES = {
    "enrolment": lambda: enrol_page(ENROLMENT),
    "refusal": lambda: enrol_page(replace(ENROLMENT, refusal="Wrong code.")),
    "recovery codes": lambda: recovery_page(RECOVERY),
    **{shown.name: lambda shown=shown: shown_page(shown) for shown in ShownOnce},
}
each_page = pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)


class Page(HTMLParser):
    """The elements of a page, each with its attributes, and its text."""

    def __init__(self, answer):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(answer.body.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def inputs(self):
        return {each["name"]: each.get("value") for each in self.all("input")}


@each_page
def test_page_is_stored_nowhere_and_runs_our_script_alone(make):
    headers = make().headers

    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in str(policy)
    # "no-referrer" would have the form sent with "Origin: null"
    assert "referrer-policy" not in headers


@each_page
def test_page_has_no_inline_script_or_style(make):
    page = Page(make())

    assert page.all("style") == []
    assert [each["src"] for each in page.all("script")] == [page.all("script")[0]["src"]]
    names = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in names if name == "style" or name.startswith("on")} == set()


@each_page
def test_no_address_of_a_page_holds_a_secret(make):
    page = Page(make())

    secrets = {secret_text(SECRET), SECRET.decode(), *RECOVERY.codes, "maya"}
    led = {
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("href", "src", "action")
    }
    assert all(path.startswith("/") for path in led)
    assert {secret for secret in secrets for path in led if secret in path} == set()


@each_page
def test_buttons_that_need_the_script_are_hidden_without_it(make):
    buttons = [each for each in Page(make()).all("button") if each["type"] != "submit"]

    assert all("hidden" in each for each in buttons)


def test_setup_key_can_be_scanned_read_and_confirmed():
    page = Page(enrol_page(ENROLMENT))

    key = secret_text(SECRET)
    assert " ".join(re.findall("....", key)) in page.text
    [image] = [each for each in page.all("div") if each.get("role") == "img"]
    assert "QR code" in image["aria-label"]
    assert len(page.all("svg")) == 1
    [form] = page.all("form")
    assert (form["method"], form["action"]) == ("post", "/factor/enrol")
    assert page.inputs() == {"step": "a-step", "next": "/?c=1&x=2", "code": None}
    [field] = [each for each in page.all("input") if each["name"] == "code"]
    assert (field["inputmode"], field["autocomplete"]) == ("numeric", "one-time-code")
    assert "autofocus" in field
    assert "aria-invalid" not in field
    assert {"href": "/account"} in page.all("a")


def test_setup_key_says_how_long_it_is_valid_and_what_becomes_of_others():
    said = Page(enrol_page(ENROLMENT)).text

    assert (
        "Enter the code within ten minutes after you signed in or confirmed that it is you." in said
    )
    assert "If you added an earlier key and did not confirm it, remove it from the app." in said


def test_refusal_is_said_beside_its_field():
    page = Page(enrol_page(replace(ENROLMENT, refusal=HOSTILE)))

    [alert] = [each for each in page.all("p") if each.get("role") == "alert"]
    [field] = [each for each in page.all("input") if each["name"] == "code"]
    assert (field["aria-invalid"], field["aria-describedby"]) == ("true", alert["id"])
    assert HOSTILE in page.text
    assert len(page.all("script")) == 1


def test_values_of_the_form_are_escaped():
    page = Page(enrol_page(replace(ENROLMENT, hidden={HOSTILE: HOSTILE}, action=f"/{HOSTILE}")))

    assert page.inputs() == {HOSTILE: HOSTILE, "code": None}
    assert page.all("form")[0]["action"] == f"/{HOSTILE}"
    assert len(page.all("script")) == 1
    assert len(page.all("b")) == 1


def test_recovery_codes_are_listed_copied_and_downloaded():
    page = Page(recovery_page(replace(RECOVERY, codes=(*RECOVERY.codes[:9], HOSTILE))))

    assert len(page.all("li")) == 10
    assert all(code in page.text for code in RECOVERY.codes[:9])
    assert HOSTILE in page.text
    copy, download, _ = page.all("button")
    assert b64decode(copy["data-copy"]).decode() == "\n".join((*RECOVERY.codes[:9], HOSTILE))
    assert download["data-file"] == "daybook-recovery-codes.txt"
    assert "maya@daybook.test" in download["data-text"]
    assert download["data-text"].endswith("\n".join((*RECOVERY.codes[:9], HOSTILE)) + "\n")
    assert page.all("a") == [{"class": "db-go", "href": "/account?a=1&b=2"}]
    assert page.all("b") == []


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//evil.example", "https://evil.example"])
def test_page_leads_to_this_site_alone(path):
    enrolment = Page(enrol_page(replace(ENROLMENT, action=path, cancel=path)))
    recovery = Page(recovery_page(replace(RECOVERY, target=path)))

    assert enrolment.all("form")[0]["action"] == "/"
    assert [each["href"] for page in (enrolment, recovery) for each in page.all("a")] == ["/", "/"]


@pytest.mark.parametrize("shown", ShownOnce)
def test_page_that_was_shown_leads_to_new_ones(shown):
    page = Page(shown_page(shown))

    assert "only once" in page.text
    assert [each["href"] for each in page.all("a")] == ["/account"]


def test_repr_shows_no_secret():
    shown = f"{ENROLMENT} {RECOVERY}"

    assert "1234" not in shown
    assert not any(code in shown for code in RECOVERY.codes)
