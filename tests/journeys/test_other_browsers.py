"""A user's day in Firefox and in WebKitGTK: what only another engine shows."""

import json
import subprocess

import pytest

from tests.journeys.people import FOR_EVER, MESSAGE, PASSWORD
from tests.other_browsers import BACKSPACE, BROWSERS, CONTROL, DOWN, ENTER, ESCAPE, Firefox
from tests.parts import PDFTOTEXT

COMPOSER = ".st-key-composer textarea"
LAST = f"[...document.querySelectorAll('{MESSAGE}')].at(-1)?.innerText"
FOCUSED = "document.activeElement"
REPLY = "Peas like *cool* soil.\n\n```python\nsow(peas)\n```\n\nSow them **early**."


@pytest.fixture(params=[*BROWSERS])
def browser(request, tmp_path):
    """A browser; errors of scripts and violations of the content security policy fail the test."""
    with BROWSERS[request.param](tmp_path) as browser:
        yield browser
        assert browser.complaints() == []


def asks(browser, prompt):
    browser.click(COMPOSER)
    browser.type(prompt)
    browser.sees("!document.querySelector('[data-testid=stChatInputSubmitButton]').disabled")
    browser.press(ENTER)


def hears(browser, *words):
    for word in words:
        browser.sees(f"{LAST}.includes('{word}')")


def words_of(pdf, folder):
    """Return the words of a PDF that are text, not shapes."""
    file = folder / "chat.pdf"
    file.write_bytes(pdf)
    return subprocess.check_output([PDFTOTEXT.required(), file, "-"], text=True).split()


@pytest.mark.long_run
def test_a_day_in_another_browser(browser, shared_app, model, tmp_path):
    # sign up
    browser.visit(shared_app("sqlite").url)
    browser.click("[role=tab]", "Create account")
    for field, text in {"email": f"{tmp_path.name}@daybook.test", "password": PASSWORD}.items():
        browser.click(f'form[action="/account"] [name={field}]')
        browser.type(text)
    browser.press(ENTER)

    # a reply streams, and goes on after a reload
    model.script(reply=REPLY, held=4)
    asks(browser, "When do I sow peas?")
    hears(browser, "cool")
    browser.visit(browser.run("location.href"))
    hears(browser, "cool")
    model.go_on()
    hears(browser, "early")

    # Copy, then paste
    browser.click('[aria-label="Copy reply"]')
    browser.sees("document.querySelectorAll('[aria-label=Copied]').length")
    browser.click(COMPOSER)
    browser.press(CONTROL, "v")
    browser.sees(f"document.querySelector('{COMPOSER}').value === {json.dumps(REPLY)}")
    browser.press(CONTROL, "a")
    browser.press(BACKSPACE)

    # Stop
    asks(browser, f"And beans? {FOR_EVER}")
    hears(browser, "word2")
    browser.click(".st-key-stop button")
    browser.sees("document.body.innerText.includes('You stopped this reply.')")
    model.wait_until(lambda server: server.requests[-1].end == "left")

    # a menu by keyboard
    browser.run(f"{browser.element('.db-list [data-options]')}.focus()")
    browser.press(ENTER)
    browser.sees(f"{FOCUSED}.textContent === 'Pin'")
    browser.press(DOWN)
    browser.sees(f"{FOCUSED}.textContent === 'Rename'")
    browser.press(ESCAPE)
    browser.sees(f"{FOCUSED}.matches('.db-list [data-options]')")
    for key in (ENTER, DOWN, ENTER):
        browser.press(key)
    browser.sees(f"{FOCUSED}.ariaLabel === 'Title'")
    browser.type("Garden")
    browser.press(ENTER)
    browser.sees("document.querySelector('.st-key-chat-head h1')?.innerText === 'Garden'")

    # the dark theme, which reloads the page
    browser.click(".st-key-account-menu button")
    browser.click('[data-act="preferences"]')
    browser.click(".st-key-theme label", "Dark")
    browser.click("[role=dialog] button", "Save")
    browser.sees("getComputedStyle(document.querySelector('.stApp')).colorScheme === 'dark'")
    hears(browser, "word2")

    # Print; its dialog would wait for a person
    browser.run("(print = () => { window.isPrinted = true }, 1)")
    browser.click(".st-key-conversation-menu button")
    browser.click("[role=menuitem]", "Print")
    browser.sees("window.isPrinted")
    if isinstance(browser, Firefox):  # WebKit's driver prints no PDF
        words = words_of(browser.pdf(), tmp_path)
        assert {"Garden", "cool", "sow(peas)", "word2"} <= {*words}
