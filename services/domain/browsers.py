"""Browser names from a fixed list: a forged User-Agent header cannot put arbitrary text into a mail or a page."""

from typing import NewType

BrowserName = NewType("BrowserName", str)

UNKNOWN_BROWSER = BrowserName("an unknown browser")
# browser names by substring of the User-Agent header; the first match counts, because most headers name several browsers
_BROWSERS = {
    "Edg/": "Edge",
    "EdgA/": "Edge",
    "EdgiOS/": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Macintosh": "Mac",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def browser_name(user_agent: str) -> BrowserName:
    """Return the name of the browser that sent the User-Agent header *user_agent*, such as "Firefox on Linux"."""
    browser, system = (
        next((name for mark, name in marks.items() if mark in user_agent), None)
        for marks in (_BROWSERS, _SYSTEMS)
    )
    if browser and system:
        return BrowserName(f"{browser} on {system}")
    if browser or system:
        return BrowserName(browser or f"a browser on {system}")
    return UNKNOWN_BROWSER
