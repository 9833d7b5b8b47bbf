"""Names of browsers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.browsers import UNKNOWN_BROWSER, browser_name

LINUX = "Mozilla/5.0 (X11; Linux x86_64"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (f"{LINUX}; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Linux"),
        (f"{LINUX}) {CHROME}", "Chrome on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Edg/142.0.0.0", "Edge on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} OPR/125.0.0.0", "Opera on Windows"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/26.1 Safari/605.1.15",
            "Safari on Mac",
        ),
        (f"{IPHONE} Version/18.1 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (f"{IPHONE} CriOS/142.0.0.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
        (f"{IPHONE} FxiOS/145.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPhone"),
        (
            f"Mozilla/5.0 (Linux; Android 15; SM-S931B) {CHROME.replace('Chrome', 'SamsungBrowser/29.0 Chrome')}",
            "Samsung Internet on Android",
        ),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME}", "Chrome on ChromeOS"),
        ("Firefox/145.0", "Firefox"),
        (f"{LINUX}) Ladybird", "a browser on Linux"),
        ("", UNKNOWN_BROWSER),
        ("curl/8.5", UNKNOWN_BROWSER),
    ],
)
def test_browser_is_named_with_its_system(user_agent, name):
    assert browser_name(user_agent) == name


@given(st.text())
def test_name_holds_no_words_of_the_request(words):
    assert browser_name(f"{words} Firefox/1 (Linux) {words}") in {
        f"{browser} on {system}"
        for browser in ("Edge", "Opera", "Samsung Internet", "Firefox")
        for system in ("iPhone", "iPad", "Android", "Windows", "Mac", "ChromeOS", "Linux")
    }
