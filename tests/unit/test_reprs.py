"""Users' text stays out of the reprs of all dataclasses, and so out of tracebacks."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import fields, is_dataclass

import services

# names from the code, names of models and of their endpoints' hosts, hashes, and sealed texts
SHOWN = """sql bucket by_kind by_name column days kind model models missing_model name outcome policy role speaker table
    titled_by url version field action figures cookie_hash returned last_failure reason host opening zone"""
SEALED = {"services.store.rows"}
# packages without users' text
OTHERS = {"services.embedded", "services.operate", "services.store.supabase"}


def text_fields():
    """Yield each field with text that a repr shows."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name in SEALED or any(map(module.name.startswith, OTHERS)):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and is_dataclass(kind) and kind.__module__ == module.name:
                for field in fields(kind) if kind.__dataclass_params__.repr else ():
                    shown = str(field.type) if field.repr else ""
                    if re.search(r"\bstr\b", shown) and "Callable" not in shown:
                        yield f"{kind.__name__}.{field.name}"


def test_no_repr_shows_text_of_users():
    assert [name for name in text_fields() if name.partition(".")[2] not in SHOWN.split()] == []
