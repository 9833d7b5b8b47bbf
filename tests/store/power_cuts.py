"""The disks that a power cut may leave, built from the recorded operations of a store in JSON files.

A `Machine` has the data on the disk and the data not yet written; a `Recorder` records all disks that a cut before each operation may leave.
"""

import os
import re
import threading
from contextlib import contextmanager
from copy import deepcopy
from itertools import product
from random import Random
from typing import NamedTuple

from services.store.files.disk import Disk

# --- operations that are on the disk after the next fsync of their file or folder


class Write(NamedTuple):
    offset: int
    data: bytes

    def on(self, content):
        end = self.offset + len(self.data)
        return content[: self.offset].ljust(self.offset, b"\0") + self.data + content[end:]

    def halved(self):
        return Write(self.offset, self.data[: len(self.data) // 2])

    def zeroed(self):
        return Write(self.offset, bytes(len(self.data)))


class Truncate(NamedTuple):
    size: int

    def on(self, content):
        return content[: self.size].ljust(self.size, b"\0")

    def halved(self):
        return self

    zeroed = halved


class Put(NamedTuple):
    name: str
    node: "Node"

    def on(self, entries):
        return {**entries, self.name: self.node}


class Remove(NamedTuple):
    name: str

    def on(self, entries):
        return {name: node for name, node in entries.items() if name != self.name}


class Rename(NamedTuple):
    name: str
    new: str
    node: "Node"  # kept even if its creation is undone

    def on(self, entries):
        rest = {name: one for name, one in entries.items() if (name, one) != (self.name, self.node)}
        return {**rest, self.new: self.node}


class Node:
    """A file (bytes) or a folder (nodes by name)."""

    def __init__(self, content):
        self.durable, self.pending = content, {}  # operations by number

    def sync(self):
        self.durable, self.pending = self.content(self.pending.values()), {}

    def content(self, operations):
        content = self.durable
        for one in operations:
            content = one.on(content)
        return content

    @property
    def now(self):
        return self.content(self.pending.values())


# the fates of the operations on a file that were not on the disk
DATA = {
    "kept": lambda pending: pending,
    "dropped": lambda pending: [],
    "halved": lambda pending: [*pending[:-1], pending[-1].halved()],
    "zeros": lambda pending: [one.zeroed() for one in pending],
    "first dropped": lambda pending: pending[1:],
    "last dropped": lambda pending: pending[:-1],
}
# by fate, the operations on folders that are undone, from the numbers of all that were not on the
# disk
FOLDERS = {
    "kept": lambda numbers: [],
    "undone": lambda numbers: numbers,
    "last undone": lambda numbers: numbers[-1:],
    "first undone": lambda numbers: numbers[:1],
}
MIXED = 3  # more disks, on which each file has a fate of its own


class Machine:
    """The files of a machine, below one folder."""

    def __init__(self, files=None):
        """Put *files* (bytes by path; None: a folder) on the disk."""
        self.root, self.nodes, self._count = Node({}), [], 0
        for path, data in sorted((files or {}).items()):
            folder, name = self._place(path)
            node = Node({} if data is None else data)
            folder.durable[name] = node
            self.nodes.append(node)

    def at(self, path):
        node = self.root
        for name in filter(None, path.split("/")):
            node = node.now[name]
        return node

    def exists(self, path):
        folder, name = self._place(path)
        return name in folder.now

    def change(self, node, operation):
        self._count += 1
        node.pending[self._count] = operation

    def create(self, path, content):
        node = Node(content)
        self.nodes.append(node)
        folder, name = self._place(path)
        self.change(folder, Put(name, node))

    def remove(self, path):
        folder, name = self._place(path)
        self.change(folder, Remove(name))

    def rename(self, path, new):
        folder, name = self._place(path)
        self.change(folder, Rename(name, new.rpartition("/")[2], folder.now[name]))

    def cuts(self):
        """Return the disks that a power cut may leave now, as bytes by path."""
        pending = [node for node in [*self.nodes, self.root] if node.pending]
        numbers = sorted(
            number for one in pending if isinstance(one.durable, dict) for number in one.pending
        )
        undone = {tuple(choose(numbers)) for choose in FOLDERS.values()}
        disks = [_files(self.root, choose, out) for choose, out in product(DATA.values(), undone)]
        for seed in range(MIXED if pending else 0):
            random = Random(self._count + seed)

            def choose(operations, random=random):
                return random.choice(list(DATA.values()))(operations)

            out = [one for one in numbers if random.random() < 0.5]
            disks.append(_files(self.root, choose, out))
        return disks

    def files(self):
        """Return the files as the processes of the machine see them."""
        return _files(self.root, DATA["kept"], ())

    def remains(self):
        """Return the data that the disk still has of unlinked files."""
        named = list(_nodes(self.root))
        gone = [node for node in self.nodes if not any(node is one for one in named)]
        return [one.durable for one in gone if isinstance(one.durable, bytes) and any(one.durable)]

    def _place(self, path):
        folder, _, name = path.rpartition("/")
        return self.at(folder), name


def _files(folder, choose, undone, path=""):
    entries = folder.content(one for number, one in folder.pending.items() if number not in undone)
    found = {}
    for name, node in entries.items():
        if isinstance(node.durable, dict):
            found[f"{path}{name}"] = None
            found |= _files(node, choose, undone, f"{path}{name}/")
        else:
            pending = list(node.pending.values())
            found[f"{path}{name}"] = node.content(choose(pending) if pending else [])
    return found


def _nodes(folder):
    for node in folder.now.values():
        yield node
        if isinstance(node.durable, dict):
            yield from _nodes(node)


def lay(files, folder):
    """Write *files* (bytes by path; None: a folder) to *folder*."""
    folder.mkdir(parents=True)
    for path, data in sorted(files.items()):
        if data is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(data)


# --- recording


class Recorder:
    """All disks that a power cut may leave before each operation on files below *folder*, with the state that each must have."""

    def __init__(self, folder, machine, answered=0):
        self.folder, self.machine = folder, machine
        self.answered = answered  # the number of the last state that was answered as lasting
        self.disks = {}  # by its files: each disk, and the least state that it must have
        self.kills = {}  # by the kind of the last operation: the machine after it, and the least state
        self.names = []  # the verbs and files of the operations
        self.interruption = None  # called once, before the next document is renamed
        # by verb and regular expression of a file's name: an error of the next such operation; a write is done half
        self.faults = {}
        # set when a journal was destroyed, which ends a round of documents
        self.written = threading.Event()
        self._lock = threading.RLock()

    def disk(self, path):
        return RecordedDisk(path, self)

    @contextmanager
    def step(self, verb, name):
        with self._lock:
            self.note()
            self.names.append((verb, name))
            yield self.machine

    def fault(self, verb, name):
        """Return the error of an operation, which happens only once; None if there is none."""
        found = (one for one in self.faults if one[0] == verb and re.fullmatch(one[1], name))
        return self.faults.pop(next(found, None), None)

    def note(self):
        """Record the disks that a power cut may leave now."""
        cuts = self.machine.cuts()
        verb, name = self.names[-1] if self.names else ("", "")
        kind = verb, re.sub(r".*[/.]|[0-9a-f-]{8,}", "", name)
        if verb not in ("", "open", "sync") and kind not in self.kills:
            self.kills[kind] = deepcopy(self.machine), self.answered
        for files in cuts:
            key = hash(frozenset(files.items()))
            _, least = self.disks.get(key, (files, 0))
            self.disks[key] = files, max(least, self.answered)


class RecordedDisk(Disk):
    def __init__(self, path, recorder):
        super().__init__(path)
        self._recorder, self._nodes = recorder, {}  # nodes by descriptor
        inner = os.path.relpath(path, recorder.folder)
        self._prefix = "" if inner == "." else f"{inner}/"

    def _path(self, name):
        return self._prefix.rstrip("/") if name == "." else f"{self._prefix}{name}"

    def open(self, name, flags):
        path = self._path(name)
        if fault := self._recorder.fault("open", name):
            raise fault
        with self._recorder.step("open", name) as machine:
            descriptor = super().open(name, flags)
            if flags & os.O_CREAT and not machine.exists(path):
                machine.create(path, b"")
            node = machine.at(path)
            if flags & os.O_TRUNC and node.now:
                machine.change(node, Truncate(0))
            self._nodes[descriptor] = node, name
        return descriptor

    def write(self, descriptor, data, offset):
        node, name = self._nodes[descriptor]
        if fault := self._recorder.fault("write", name):
            data = data[: len(data) // 2]
        with self._recorder.step("write" if any(data) else "overwrite", name) as machine:
            super().write(descriptor, data, offset)
            machine.change(node, Write(offset, bytes(data)))
        if fault:
            raise fault

    def truncate(self, descriptor, size):
        node, name = self._nodes[descriptor]
        with self._recorder.step("truncate", name) as machine:
            super().truncate(descriptor, size)
            machine.change(node, Truncate(size))

    def sync(self, descriptor):
        node, name = self._nodes[descriptor]
        with self._recorder.step("sync", name):
            super().sync(descriptor)
            node.sync()

    def rename(self, name, new):
        if self._recorder.interruption and ".jsonl" in name:
            interrupt, self._recorder.interruption = self._recorder.interruption, None
            interrupt()
        with self._recorder.step("rename", name) as machine:
            super().rename(name, new)
            machine.rename(self._path(name), self._path(new))

    def unlink(self, name):
        with self._recorder.step("unlink", name) as machine:
            super().unlink(name)
            machine.remove(self._path(name))
        if name.startswith("journal-"):
            self._recorder.written.set()

    def make_folder(self, name):
        with self._recorder.step("make_folder", name) as machine:
            super().make_folder(name)
            machine.create(self._path(name), {})

    def remove_folder(self, name):
        with self._recorder.step("remove_folder", name) as machine:
            super().remove_folder(name)
            machine.remove(self._path(name))
