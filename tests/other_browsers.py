"""Firefox by WebDriver BiDi and WebKitGTK by WebDriver, from Debian's packages and without a driver of others."""

import base64
import itertools
import json
import os
import subprocess
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager, suppress

import httpx
from websockets.sync.client import connect

from services.embedded.folders import free_port
from tests.parts import FIREFOX, WEBKIT, XVFB
from tests.stack.apps import SECONDS, until

# WebDriver's names of keys
ENTER, ESCAPE, CONTROL, DOWN, BACKSPACE = "\ue007", "\ue00c", "\ue009", "\ue015", "\ue003"
WIDTH, HEIGHT = 1280, 900
_REST = 200  # milliseconds without a move, after which an element rests
# what Firefox says of a download that a reload ends
_CUT_OFF = ("error loading dynamically imported module", "downloadable font: download failed")
# the driver reads no console: a script notes errors and violations from the page's first check on
_NOTED = """window.noted ??= (() => {
  const noted = [];
  const note = (kind, told) => addEventListener(kind, (event) => noted.push(`${kind}: ${told(event)}`));
  note("error", ({ message }) => message);
  note("unhandledrejection", ({ reason }) => reason);
  note("securitypolicyviolation", (event) => `${event.violatedDirective} ${event.blockedURI}`);
  return noted;
})()"""
# without a window, Firefox finds no device that points exactly (2) and hovers (4)
_MOUSE = 'user_pref("ui.primaryPointerCapabilities", 6);'


class BrowserError(Exception):
    """Raised if a browser refuses a command, for example because the page is being replaced."""


class Browser(ABC):
    """One tab of a browser. Scripts run in the page, pointer and keys are the browser's own."""

    @abstractmethod
    def visit(self, url):
        """Open *url*, or the same page again, and wait until it is loaded."""

    @abstractmethod
    def run(self, expression):
        """Return the value of a JavaScript *expression* that JSON can express."""

    @abstractmethod
    def complaints(self):
        """Return the errors of scripts and the violations of the content security policy; WebKit's since a page's first check."""

    @abstractmethod
    def _perform(self, source):
        """Perform the actions of one input *source* (WebDriver's name of a keyboard or pointer)."""

    def sees(self, expression):
        """Wait until *expression* is true, and return its value."""

        def value():
            with suppress(BrowserError):
                return self.run(expression)

        return until(value, told=lambda: f": {expression}\n{self.run('document.body.innerText')}")

    def element(self, selector, text=""):
        """Return the expression of the last visible element of *selector*, whose text is *text* if that is given."""
        wanted = f"found.innerText.trim() === {json.dumps(text)}" if text else "true"
        return f"""[...document.querySelectorAll({json.dumps(selector)})]
            .findLast((found) => found.checkVisibility() && {wanted})"""

    def click(self, selector, text=""):
        """Click the middle of an element once it rests, and nothing covers it."""
        middle = f"""(async () => {{
          const middle = () => {{
            const {{ x, y, width, height }} = {self.element(selector, text)}?.getBoundingClientRect() ?? {{}};
            return [x + width / 2, y + height / 2].map(Math.round);
          }};
          const before = middle();
          await new Promise((resolve) => setTimeout(resolve, {_REST}));
          const found = {self.element(selector, text)};
          found?.scrollIntoView({{ block: "nearest" }});
          const isThere = found?.contains(document.elementFromPoint(...middle()));
          return isThere && `${{middle()}}` === `${{before}}` && before;
        }})()"""
        x, y = self.sees(middle)
        button = {"button": 0}
        actions = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown"} | button,
            {"type": "pointerUp"} | button,
        ]
        self._perform({"type": "pointer", "id": "mouse", "actions": actions})

    def type(self, text):
        """Press the keys of *text*, one after the other."""
        self._keys((kind, key) for key in text for kind in ("keyDown", "keyUp"))

    def press(self, *keys):
        """Press *keys* together."""
        downs = [("keyDown", key) for key in keys]
        self._keys([*downs, *(("keyUp", key) for key in reversed(keys))])

    def _keys(self, pressed):
        actions = [{"type": kind, "value": key} for kind, key in pressed]
        self._perform({"type": "key", "id": "keyboard", "actions": actions})


class Firefox(Browser):
    """Firefox without a window, by WebDriver BiDi: commands and events are JSON on one websocket."""

    def __init__(self, socket):
        self._socket, self._numbers, self._logged = socket, itertools.count(), []
        self._call("session.new", capabilities={})
        self._call("session.subscribe", events=["log.entryAdded"])
        # the tab that is there at the start never has the focus, without which Enter presses no button
        self._tab = self._call("browsingContext.create", type="tab")["context"]

    def visit(self, url):
        self._call("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def run(self, expression):
        answer = self._call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({expression})) ?? null))()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def pdf(self):
        """Return the page as a PDF, as the browser prints it."""
        return base64.b64decode(self._call("browsingContext.print", context=self._tab)["data"])

    def complaints(self):
        self.run("1")  # receives the events before
        said = [entry["text"] for entry in self._logged if entry["level"] == "error"]
        return [text for text in said if not text.removeprefix("TypeError: ").startswith(_CUT_OFF)]

    def _perform(self, source):
        self._call("input.performActions", context=self._tab, actions=[source])

    def _call(self, method, **params):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (said := json.loads(self._socket.recv(SECONDS))).get("id") != number:
            if said.get("method") == "log.entryAdded":
                self._logged.append(said["params"])
        if said["type"] == "error":
            raise BrowserError(f"{method}: {said['error']}: {said['message']}")
        return said["result"]


class WebKit(Browser):
    """WebKitGTK's own small browser, by WebDriver: HTTP requests to a driver that starts it."""

    def __init__(self, driver):
        self._driver, self._noted = driver, []
        session = self._call("POST", "", capabilities={})
        self._session = f"/{session['sessionId']}"
        self._call("POST", "/window/rect", width=WIDTH, height=HEIGHT)

    def visit(self, url):
        self._call("POST", "/url", url=url)

    def run(self, expression):
        script = f"""return (async () => {{
          {_NOTED};
          const value = (await ({expression})) ?? null;
          return JSON.stringify([value, noted.splice(0)]);
        }})()"""
        value, noted = json.loads(self._call("POST", "/execute/sync", script=script, args=[]))
        self._noted += noted
        return value

    def complaints(self):
        self.run("1")
        return self._noted

    def close(self):
        self._call("DELETE", "")

    def _perform(self, source):
        self._call("POST", "/actions", actions=[source])

    def _call(self, method, path, **params):
        session = getattr(self, "_session", "")
        answer = self._driver.request(method, f"/session{session}{path}", json=params)
        value = answer.json()["value"]
        if not answer.is_success:
            raise BrowserError(f"{path}: {value['error']}: {value['message']}")
        return value


@contextmanager
def firefox(folder):
    """Yield Firefox with a new profile in *folder*. Without Firefox, skip the test, or fail in CI."""
    port = free_port()
    (folder / "user.js").write_text(_MOUSE)
    options = ["--headless", "--no-remote", "--width", str(WIDTH), "--height", str(HEIGHT)]
    command = [FIREFOX.required(), *options, "--profile", folder, "--remote-debugging-port", port]
    with _started(command, folder / "firefox.txt", HOME=folder):
        url = f"ws://127.0.0.1:{port}/session"
        socket = until(lambda: _unless_refused(lambda: connect(url, proxy=None, max_size=None)))
        with socket:
            yield Firefox(socket)


@contextmanager
def webkit(folder):
    """Yield WebKitGTK on a display of its own. Without its driver or Xvfb, skip the test, or fail in CI."""
    driver, screen = WEBKIT.required(), f"{WIDTH}x{HEIGHT}x24"
    display = [XVFB.required(), "-displayfd", "1", "-screen", "0", screen, "-nolisten", "tcp"]
    with _started(display, folder / "display.txt"):
        number = until(lambda: (folder / "display.txt").read_text().partition("\n")[0])
        port = free_port()
        with (
            _started(
                [driver, f"--port={port}"], folder / "webkit.txt", DISPLAY=f":{number}", HOME=folder
            ),
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=SECONDS, trust_env=False
            ) as client,
        ):
            until(lambda: _unless_refused(lambda: client.get("/status")))
            with closing(WebKit(client)) as browser:
                yield browser


BROWSERS = {"firefox": firefox, "webkit": webkit}


def _unless_refused(connected):
    with suppress(OSError, httpx.TransportError):
        return connected()


@contextmanager
def _started(command, output, **environment):
    """Run *command* during the block; its output is written to a file."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*map(str, command)],
            env=os.environ | {name: str(value) for name, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)
