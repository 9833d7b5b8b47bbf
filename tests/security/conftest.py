"""The databases of tests/database, for attacks on them."""

from tests.database.conftest import migrated, proof, server, template, world

__all__ = ["migrated", "proof", "server", "template", "world"]
