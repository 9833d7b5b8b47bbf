"""Texts and keys in the memory of this process, found by their contents."""

import gc
import sys
import threading
from itertools import filterfalse

from services.caches import READ_AHEAD_THREAD
from services.chat.live_turn import BEAT_THREADS, TURN_THREADS
from services.chat.search import RECALL_THREAD
from services.chat.task_registry import BACKGROUND_THREAD
from services.users.message_search import SEARCH_THREAD
from tests.stack.apps import until

# the beginnings of the names of threads that end by themselves, and hold a user's text until then
_CALLS = (
    TURN_THREADS,
    BEAT_THREADS,
    RECALL_THREAD,
    READ_AHEAD_THREAD,
    BACKGROUND_THREAD,
    SEARCH_THREAD,
)


def found(*canaries, in_new=False):
    """Return every text or bytes object with one of *canaries* that is reachable from any object or module of this process.

    First wait for the threads of running calls, such as the last heartbeat of a turn that is over: each holds text until
    the database has answered it.
    *in_new*: search only the objects made since `gc.freeze()`, without that wait, which is quick and enough where something
    must be found.
    Strings and bytes, and containers of only these, are not in `gc.get_objects()`: they are found by following
    `gc.get_referents`, which leaves out a dict's keys if all of them are strings.
    """
    if not in_new:
        until(lambda: not any(one.name.startswith(_CALLS) for one in threading.enumerate()))
        gc.unfreeze()
    gc.collect()
    untracked = dict[int, object]()
    new = [*gc.get_objects(), *sys.modules.values()]
    while new:
        found = dict[int, object]()
        for start in range(0, len(new), 10_000):
            some = new[start : start + 10_000]
            referents = gc.get_referents(*some)
            for each in some:
                if issubclass(type(each), dict):
                    referents += list(dict.keys(each))
            found |= {id(one): one for one in filterfalse(gc.is_tracked, referents)}
        new = [found[key] for key in found.keys() - untracked.keys()]
        untracked |= found
    return {
        text
        for text in untracked.values()
        for canary in canaries
        if isinstance(text, type(canary)) and text is not canary and canary in text
    }
