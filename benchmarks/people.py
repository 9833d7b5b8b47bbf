"""Many users at once, beside the plain chat: the delay of the model's tokens, and the load of the app.

python -m benchmarks.people [--json] [--runs N] [--people N] [measure ...]

stream   50 users, each with a reply of 20 tokens a second: the milliseconds from the moment when the model sends a token
         within which 95 % of the tokens reach their readers; and the processor cores that the app uses meanwhile, alone
         and with its database
memory   megabytes of the app for one more session with an open conversation of 500 messages

The readers are not browsers but sockets that speak Streamlit's protocol, in a process of their own, whose load is not counted.
"""

import argparse
import asyncio
import json
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import rig
from benchmarks.rig import EMAIL, SECONDS, Endpoint, Figures
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.model_server import STAMP_TURN

PROMPT = "Tell me. [[tokens=160 rate=20 stamped=1]]"  # takes eight seconds
LONG = 500  # the length of a conversation in messages
WARM, MORE = 5, 20  # sessions before the measurement, and sessions that are measured
_STAMP = re.compile(r"\b\d{5}\b")


@dataclass(frozen=True, slots=True)
class Site:
    """A site under load: the app, or the plain chat."""

    url: str
    long: str  # the query of a conversation of LONG messages
    process: psutil.Process
    # returns the cookie of one more device of a user; an empty string for the plain chat
    new_cookie: Callable[[], str]
    cookies: list[str]  # cookies of different users


class Tab:
    """A client of Streamlit's WebSocket that acts as a browser tab does."""

    def __init__(self, socket: ClientConnection, query: str) -> None:
        self._socket, self._query = socket, query
        self._composer = ""

    async def load(self) -> None:
        """Wait until the page is drawn."""
        await self._say(BackMsg())
        async for _ in self._heard():
            pass

    async def ask(self, prompt: str) -> list[float]:
        """Send *prompt*; return the milliseconds that each token of the reply took to arrive."""
        said = BackMsg()
        state = said.rerun_script.widget_states.widgets.add(id=self._composer)
        state.chat_input_value.data = prompt
        asked = time.time() * 1000
        await self._say(said)
        lags: list[float] = []
        async for message in self._heard():
            now = time.time() * 1000
            text = message.delta.new_element.markdown.body
            ages = [(now - int(stamp)) % STAMP_TURN for stamp in _STAMP.findall(text)]
            if ages and ages[0] <= now - asked:  # false for a token of an earlier reply
                lags += ages[len(lags) :]
        return lags

    async def _say(self, said: BackMsg) -> None:
        said.rerun_script.query_string = self._query
        await self._socket.send(said.SerializeToString())

    async def _heard(self) -> AsyncIterator[ForwardMsg]:
        """Yield messages until a script run ends without being followed by a rerun."""
        async with asyncio.timeout(SECONDS):
            async for data in self._socket:
                assert isinstance(data, bytes)
                message = ForwardMsg.FromString(data)
                element = message.delta.new_element
                if element.HasField("chat_input"):
                    self._composer = element.chat_input.id
                if message.HasField("page_info_changed"):
                    self._query = message.page_info_changed.query_string
                yield message
                if (
                    message.HasField("script_finished")
                    and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
                ):
                    return


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.people")
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=7, help="of the stream; the median counts")
    parser.add_argument("--people", type=int, default=50)
    chosen = parser.parse_args()

    figures = measure(chosen.measures or list(MEASURES), chosen.runs, chosen.people)
    if chosen.json:
        print(json.dumps(figures))
        return
    print(f"{chosen.people} people, medians of {chosen.runs}   Daybook   plain Streamlit")
    for name, ours in figures["daybook"].items():
        print(f"  {name:<28} {ours:>8.2f} {figures['plain'][name]:>17.2f}")


def measure(measures: list[str], runs: int, people: int) -> dict[str, Figures]:
    """Return the figures by name, of the app and of the plain chat."""

    def of(site: Site) -> Figures:
        found: Figures = {}
        for name in measures:
            found |= asyncio.run(MEASURES[name](site, runs))
        return found

    with rig.model() as endpoint:
        with _plain(endpoint, people) as site:
            plain = of(site)
        with _daybook(endpoint, people) as site:
            return {"daybook": of(site), "plain": plain}


async def _stream(site: Site, runs: int) -> Figures:
    lags: list[float] = []
    alone: list[float] = []
    whole: list[float] = []
    async with AsyncExitStack() as stack:
        tabs = [await stack.enter_async_context(_tab(site, cookie)) for cookie in site.cookies]
        for _ in range(runs):
            began, before = time.monotonic(), _cores(site.process)
            found = await asyncio.gather(*(tab.ask(PROMPT) for tab in tabs))
            seconds, after = time.monotonic() - began, _cores(site.process)
            lags.append(statistics.quantiles([lag for each in found for lag in each], n=20)[-1])
            alone.append((after[0] - before[0]) / seconds)
            whole.append((after[1] - before[1]) / seconds)
    return {
        "stream_lag_p95_ms": statistics.median(lags),
        "stream_cores_app": statistics.median(alone),
        "stream_cores_all": statistics.median(whole),
    }


async def _memory(site: Site, _: int) -> Figures:
    async with AsyncExitStack() as stack:

        async def come(count: int) -> int:
            for _ in range(count):
                await stack.enter_async_context(_tab(site, site.new_cookie(), site.long))
            return site.process.memory_full_info().uss

        before = await come(WARM)
        after = await come(MORE)
    return {"memory_mb_a_session": (after - before) / MORE / 1e6}


MEASURES = {"stream": _stream, "memory": _memory}


def _cores(process: psutil.Process) -> tuple[float, float]:
    """Return the CPU seconds of the process, and those of the process with its children."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    seconds = [each.user + each.system for each in times]
    return seconds[0], sum(seconds)


@asynccontextmanager
async def _tab(site: Site, cookie: str, query: str = "") -> AsyncIterator[Tab]:
    address = f"{site.url.replace('http', 'ws')}/_stcore/stream"
    headers = {"Cookie": cookie, "Origin": site.url}
    async with connect(
        address, additional_headers=headers, subprotocols=["streamlit"], max_size=None, proxy=None
    ) as socket:
        tab = Tab(socket, query)
        await tab.load()
        yield tab


@contextmanager
def _daybook(endpoint: Endpoint, people: int) -> Iterator[Site]:
    with rig.daybook(endpoint) as app, second_process(app) as sessions:
        _, reader = sessions.sign_up_with(EMAIL, PASSWORD)
        emails = [f"person-{number}@daybook.test" for number in range(people)]
        for email in emails:
            sessions.sign_up_with(email, PASSWORD)
        let_talk_fast(app)
        yield Site(
            url=app.url,
            long=f"c={converse(reader, rig.past(LONG))}",
            process=psutil.Process(app.process.pid),
            new_cookie=lambda: rig.new_cookie(app, sessions),
            cookies=[rig.new_cookie(app, sessions, email) for email in emails],
        )


@contextmanager
def _plain(endpoint: Endpoint, people: int) -> Iterator[Site]:
    with rig.plain_chat(endpoint) as (url, pid):
        yield Site(
            url=url,
            long=f"messages={LONG}",
            process=psutil.Process(pid),
            new_cookie=str,
            cookies=[""] * people,
        )


if __name__ == "__main__":
    main()
