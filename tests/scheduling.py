"""The distribution of tests over workers: by file, and by server where each worker would have to start one of its own."""

import re

from xdist.scheduler import LoadFileScheduling

_STORES = re.compile(r"\[(in-memory|bytes|sqlite|json-plain|json|firestore|embedded|hosted)\b")
_SERVERS = {  # a worker starts one in 3 to 10 CPU seconds
    "the Firestore emulator": ("[firestore", "test_firestore.py", "test_copy_firestore.py"),
    "the hosted rig": ("[hosted", "tests/hosted/"),
}
# files of more than 40 s whose tests share nothing but what a worker has for the whole run
_SPLIT = ("tests/journeys/test_access.py",)


def group_of(nodeid):
    """Return the group of a test, which one worker runs: those of a server, those of a file on one store, or those of a file."""
    for server, parts in _SERVERS.items():
        if any(part in nodeid for part in parts):
            return server
    file = nodeid.partition("::")[0]
    if file in _SPLIT:
        return nodeid
    store = _STORES.search(nodeid) if file.startswith("tests/store/") else None
    return f"{file}{store[0]}]" if store else file


class _ByServer(LoadFileScheduling):
    def _split_scope(self, nodeid):
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return _ByServer(config, log)
