"""A disk of the store in JSON files; a test sees each operation and can let it fail."""

import os

from services.store.files import place as places
from services.store.files.disk import Disk


class FaultyDisk(Disk):
    """Calls *before* with the verb and the file of each operation. A write for which it raises is done half."""

    def __init__(self, path, before):
        self._before, self._names = before, {}  # file names by descriptor
        super().__init__(path)

    def open(self, name, flags):
        self._before("create" if flags & os.O_CREAT else "open", name)
        descriptor = super().open(name, flags)
        self._names[descriptor] = name
        return descriptor

    def write(self, descriptor, data, offset):
        verb = "write" if any(data) else "overwrite"
        try:
            self._before(verb, self._names[descriptor])
        except OSError:
            super().write(descriptor, data[: len(data) // 2], offset)
            raise
        super().write(descriptor, data, offset)

    def truncate(self, descriptor, size):
        self._before("truncate", self._names[descriptor])
        super().truncate(descriptor, size)

    def sync(self, descriptor):
        try:
            self._before("sync", self._names[descriptor])
        except OSError:
            descriptor = 2**31 - 1  # the descriptor of no file
        super().sync(descriptor)

    def rename(self, name, new):
        self._before("rename", name)
        super().rename(name, new)

    def unlink(self, name):
        self._before("unlink", name)
        super().unlink(name)

    def make_folder(self, name):
        self._before("make_folder", name)
        super().make_folder(name)

    def remove_folder(self, name):
        self._before("remove_folder", name)
        super().remove_folder(name)


class Faults:
    """The operations on the disk of a store, and the errors that they raise."""

    def __init__(self, patch):
        self.errors = {}  # by verb and beginning of a file's name
        self.done = []  # verbs and names
        self.met = []  # operations that raised an error
        self.at_first = lambda: None  # called once, before the first operation fails
        patch.setattr(places, "Disk", lambda path: FaultyDisk(path, self._before))

    def _before(self, verb, name):
        self.done.append((verb, name))
        for (of, start), error in list(self.errors.items()):
            if of == verb and name.startswith(start):
                if not self.met:
                    self.at_first()
                self.met.append((verb, name))
                raise error
