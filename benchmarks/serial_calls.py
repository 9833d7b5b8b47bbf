"""The calls of the database's API and of Supabase Auth that a user waits for, one after the other.

python -m benchmarks.serial_calls [--json] [PATH …]

The app runs on the rig of hosted Supabase's parts (`tests/hosted/rig.py`), where each call is delayed by 40 ms. A user takes
all paths; then again, with one call of each path delayed by one more second, until each call has been the slow one. A
call is waited for if its delay delays the result. A call's round is one more than the latest round of the waited-for calls
that had ended when it began: simultaneous calls share a round.

sign-in           from the press on the form's button until the composer works and the list is in view
switch            from the press on a row until the conversation's last message is in view, in a session that has not read
                  the conversation
switch, again     the same, in a session that has read it
first character   from Enter in a conversation until the reply's first word is in view
in a new chat     the same in a conversation that begins with this prompt
after a restart   from the request of a conversation's address until its last message is in view, in a new process
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from benchmarks import rig
from benchmarks.first_character import FIRST, MARK, STOPWATCH
from benchmarks.page import PRESS, WATCH
from services.embedded.folders import choose_folders
from tests.chromium import chromium
from tests.hosted.gateway import Request, Response, Service
from tests.hosted.rig import started_rig
from tests.journeys.people import PASSWORD, Person
from tests.stack.apps import App, running, until

Place = tuple[str, int]  # the name of a call, and the number of its occurrence on its path
AWAY_SECONDS = 0.04  # hosted Supabase has a delay of 30 to 80 ms
SLOW_SECONDS = 1.0  # more than drawing without a call takes
# the pause before each press, because an opened session is trusted for 5 seconds
READING_SECONDS = 6.0
QUIET_SECONDS = 1.0  # seconds without a call, after which no earlier action is still in progress
PROMPTS = "Peas in wet soil", "A hotbed in March"
PATHS = (
    "sign-in",
    "switch",
    "switch, again",
    "first character",
    "in a new chat",
    "after a restart",
)
# the time of the last press, in milliseconds since 1970
PRESSES = """
  for (const kind of ["pointerdown", "keydown"])
    addEventListener(kind, (event) => {
      if ((event.key ?? "Enter") === "Enter") window.pressed = Date.now();
    }, true);
"""
# the time at which the awaited element was in view, in milliseconds since 1970
SHOWN = """() => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error("not in view in a minute")), 60_000);
  window.shown.then((moment) => resolve(performance.timeOrigin + moment));
})"""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the gateway saw it, in seconds since 1970."""

    place: Place
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Wait:
    """The time from a press until the result was in view, and the calls that ended meanwhile, in this order."""

    since: float
    shown: float
    calls: tuple[Call, ...]

    def rounds(self, waited: set[Place]) -> dict[Place, int]:
        """Return the round of each call that is *waited* for."""
        rounds: dict[Place, int] = {}
        ended = {call.place: call.ended for call in self.calls}
        for call in self.calls:
            if call.place in waited:
                before = (rounds[place] for place in rounds if ended[place] <= call.began)
                rounds[call.place] = 1 + max(before, default=0)
        return rounds


@dataclass(slots=True)
class Wire:
    """The delayed connection to the services behind a gateway."""

    slow: Place | None = None
    calls: list[Call] = field(default_factory=list[Call])
    _begun: Counter[str] = field(default_factory=Counter[str])

    def note(self, slow: Place | None) -> None:
        """Record the calls from now on; the call *slow* is delayed more."""
        self.slow, self.calls = slow, []
        self._begun.clear()

    def to(self, service: Service) -> Service:
        def call(request: Request) -> Response:
            path, began = urlsplit(request.path).path.removeprefix("/"), time.time()
            name = path if path.startswith("rpc/") else f"{request.method} {path}"
            self._begun[name] += 1
            place = name, self._begun[name]
            time.sleep(AWAY_SECONDS + SLOW_SECONDS * (place == self.slow))
            answer = service(request)
            self.calls.append(Call(place, began, time.time()))
            return answer

        return call

    def until_quiet(self) -> None:
        since = time.time()
        until(lambda: time.time() - max([since, *(c.ended for c in self.calls)]) > QUIET_SECONDS)

    def wait(self, since: float, shown: float) -> Wait:
        calls = [call for call in self.calls if since <= call.began and call.ended <= shown]
        return Wait(since, shown, tuple(sorted(calls, key=lambda call: call.ended)))


@dataclass(frozen=True, slots=True)
class Reader:
    """A user with two conversations, at a page of the app."""

    app: App
    wire: Wire
    person: Person

    def paths(self, chosen: frozenset[str], slow: Mapping[str, Place]) -> dict[str, Wait]:
        """Take each *chosen* path once; each path begins in the state that the one before has left."""
        person = self.person
        waits: dict[str, Wait] = {}
        if chosen & {"sign-in", "switch", "switch, again"}:
            waits["sign-in"] = self._sign_in(slow.get("sign-in"))
        person.visit()
        if chosen & {"switch", "switch, again"}:
            waits["switch"] = self._switch(slow.get("switch"))
        if "switch, again" in chosen:
            person.begins_a_new_chat()
            waits["switch, again"] = self._switch(slow.get("switch, again"))
        person.opens(PROMPTS[1])
        address = person.page.url
        if chosen & {"first character", "after a restart"}:  # the later path needs that reply
            waits["first character"] = self._ask(slow.get("first character"))
        if "in a new chat" in chosen:
            person.begins_a_new_chat()
            waits["in a new chat"] = self._ask(slow.get("in a new chat"))
        if "after a restart" in chosen:
            waits["after a restart"] = self._restart(slow.get("after a restart"), address)
        return {path: wait for path, wait in waits.items() if path in chosen}

    def _switch(self, slow: Place | None) -> Wait:
        self._rest()
        self.wire.note(slow)
        self.person.page.evaluate(PRESS, f"You said: {PROMPTS[0]}")
        self.person.row(PROMPTS[0]).click()
        return self._until_shown()

    def _ask(self, slow: Place | None) -> Wait:
        self._rest()
        prompt = f"Question {time.time_ns()}"
        self.person.composer.fill(f"{prompt} {MARK}")
        self.person.page.evaluate(STOPWATCH, [prompt, FIRST])
        self.wire.note(slow)
        self.person.sends()
        return self._until_shown()

    def _until_shown(self) -> Wait:
        took, pressed = (self.person.page.evaluate(f"window.{one}") for one in ("took", "pressed"))
        wait = self.wire.wait(pressed / 1000, (pressed + took) / 1000)
        rig.settle(self.person.page)
        self.wire.until_quiet()
        return wait

    def _rest(self) -> None:
        rig.settle(self.person.page)
        self.person.page.wait_for_timeout(READING_SECONDS * 1000)

    def _restart(self, slow: Place | None, address: str) -> Wait:
        self.person.page.goto("about:blank")  # an open page would reconnect and read data
        self.app.kill()
        until(lambda: not self.app.left())
        self.app.start().until_ready()
        with self._tab("message", FIRST) as page:
            self.wire.until_quiet()
            self.wire.note(slow)
            since = time.time()
            page.goto(address, wait_until="commit")
            return self._until_loaded(page, since)

    def _sign_in(self, slow: Place | None) -> Wait:
        self.person.page.goto("about:blank")
        self.person.context.clear_cookies()
        with self._tab("rows", len(PROMPTS)) as page:
            page.goto(self.app.url)
            form = page.locator('form[action="/session"]')
            form.locator('[name="email"]').fill(self.person.email)
            form.locator('[name="password"]').fill(PASSWORD)
            self.wire.until_quiet()
            self.wire.note(slow)
            with page.expect_navigation(wait_until="commit"):
                since = time.time()
                form.get_by_role("button", name="Sign in").click()
            return self._until_loaded(page, since)

    @contextmanager
    def _tab(self, what: str, value: object) -> Iterator[Page]:
        page = self.person.context.new_page()
        watch = f"watch({json.dumps(what)}, {json.dumps(value)})"
        page.add_init_script(f"window.shown = {watch};")
        yield page
        page.close()

    def _until_loaded(self, page: Page, since: float) -> Wait:
        shown = page.evaluate(SHOWN)
        wait = self.wire.wait(since, shown / 1000)
        rig.settle(page)
        self.wire.until_quiet()
        return wait


@contextmanager
def _reader(browser: Browser, endpoint: rig.Endpoint) -> Iterator[Reader]:
    cache, wire = choose_folders(None, None).cache, Wire()
    with (
        tempfile.TemporaryDirectory(prefix="daybook-") as base,
        started_rig(cache, is_open=False) as supabase,
    ):
        services = supabase.gateway.services
        services |= {prefix: wire.to(service) for prefix, service in services.items()}
        environment = endpoint | supabase.environment() | {"DAYBOOK_MODEL": "scripted"}
        with running(App(Path(base), cache, environment=environment)) as app:
            app.until_ready()
            person = Person(browser, app.url, "reader")
            person.context.add_init_script(WATCH + PRESSES)
            person.arrives()
            for prompt in PROMPTS:
                person.begins_a_new_chat()
                person.asks(prompt)
                person.hears_all_of(f"You said: {prompt}")
            yield Reader(app, wire, person)
            person.leaves()


def measure(chosen: frozenset[str]) -> dict[str, dict[str, object]]:
    """Return the calls of each *chosen* path, with milliseconds since the press and the round; round 0: not waited for."""
    with rig.model() as endpoint, chromium() as browser, _reader(browser, endpoint) as reader:
        first = reader.paths(chosen, {})
        waited: dict[str, set[Place]] = {path: set() for path in first}
        for number in range(max(len(wait.calls) for wait in first.values())):
            slow = {
                path: wait.calls[number].place
                for path, wait in first.items()
                if number < len(wait.calls)
            }
            for path, wait in reader.paths(chosen, slow).items():
                waited[path].update(c.place for c in wait.calls if c.place == slow.get(path))
    return {path: _figures(wait, wait.rounds(waited[path])) for path, wait in first.items()}


def _figures(wait: Wait, rounds: Mapping[Place, int]) -> dict[str, object]:
    def milliseconds(moment: float) -> int:
        return round(1000 * (moment - wait.since))

    each: list[tuple[int, int, int, str]] = []
    for call in wait.calls:
        began, ended = milliseconds(call.began), milliseconds(call.ended)
        each.append((rounds.get(call.place, 0), began, ended, call.place[0]))
    most = max(rounds.values(), default=0)
    return {"rounds": most, "calls": len(rounds), "ms": milliseconds(wait.shown), "each": each}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serial_calls")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="one of: " + "; ".join(PATHS))
    chosen = parser.parse_args()
    if unknown := set(chosen.paths) - set(PATHS):
        parser.error(f"no such path: {', '.join(sorted(unknown))}")

    figures = measure(frozenset(chosen.paths or PATHS))
    if chosen.json:
        print(json.dumps(figures))
        return
    for path, each in figures.items():
        print(f"{path}: {each['rounds']} rounds, {each['calls']} calls waited for, {each['ms']} ms")
        for number, began, ended, name in each["each"]:
            round_ = f"round {number}" if number else "beside"
            print(f"  {round_:<9} {began:>5} to {ended:>5} ms  {name}")


if __name__ == "__main__":
    main()
