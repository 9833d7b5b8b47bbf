"""The committed list of the API's functions, `db/api.txt`: `python -m tests.api_list` writes the file.

`api.sql` makes these functions by EXECUTE, so a search finds them only in this list. A test compares the list with the
catalogue of a migrated database.
"""

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import psycopg

from services.store.supabase import migrations
from services.store.supabase.schema import FOLDER
from tests.database import servers

LIST = Path(__file__).parents[1] / "db" / "api.txt"
_HEADER = """\
The functions of the API, as db/migrations/20261121095000_api.sql makes them in the schema `public`.
Written by `python -m tests.api_list`; a test compares it with the catalogue of a migrated database.

    name (argument type, …) -> result: caller, proof

The caller is the role that may call it: authenticated (a signed-in user) or anon (the app itself). "proven" ones take, after
these arguments, the server proof (anon: the time it was made at, too), and are called through `private.checked_<name>`,
which compares the verb and all arguments in this order; sealed, sealed_head and free_text by their sha256. `start_session`
checks its proof itself.
"""
_CATALOGUE = """
  select proname, coalesce(proargnames[:pronargs], '{}'),
    array(select format_type(type, null) from unnest(proargtypes) with ordinality each (type, place) order by place),
    pg_get_function_result(pg_proc.oid),
    (select string_agg(grantee::regrole::text, ' and ') from aclexplode(proacl) where grantee <> proowner),
    to_regprocedure(format('private.checked_%I(%s)', proname, oidvectortypes(proargtypes))) is not null
  from pg_proc where pronamespace = 'public'::regnamespace order by proname
"""
_LINE = re.compile(r"^(\w+) \((.*?)\) -> .*?: (\w+)(, proven)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ApiFunction:
    """A function of the list."""

    arguments: dict[str, str]  # names and types, without the arguments of the proof
    caller: str
    is_proven: bool


def api_functions():
    """Return the functions of the committed list by name."""
    found, text = {}, LIST.read_text().replace("\n    ", " ")
    for name, arguments, caller, proven in _LINE.findall(text):
        kinds = dict(each.split(" ") for each in arguments.split(", ") if each)
        kinds.pop("proof", None)
        found[name] = ApiFunction(kinds, caller, bool(proven))
    return found


def list_of(connection):
    """Return the text of the list for the database of *connection*."""
    lines = []
    for name, names, types, result, caller, is_proven in connection.execute(_CATALOGUE):
        own = [
            f"{each} {kind.removeprefix('public.')}"
            for each, kind in zip(names, types, strict=True)
            if not (is_proven and each in ("made_at", "proof"))
        ]
        lines.append(_wrapped(name, own, f"-> {result}: {caller}{', proven' * is_proven}"))
    return "\n".join([_HEADER, *lines, ""])


def _wrapped(name, arguments, rest):
    """Return a function in lines of at most 120 characters; continuation lines are indented."""
    # non-breaking spaces keep an argument on one line with its type
    parts = ", ".join(argument.replace(" ", "\xa0") for argument in arguments)
    line = f"{name} ({parts}) {rest}"
    return textwrap.fill(line, 120, subsequent_indent="    ").replace("\xa0", " ")


def main():
    with servers.started(18) as server:
        address = servers.new_database(server, "listed")
        servers.lay_ground(address)
        with psycopg.connect(servers.as_owner(address), autocommit=True) as owner:
            migrations.apply(owner, FOLDER)
            LIST.write_text(list_of(owner))
    sys.stdout.write(f"{len(api_functions())} functions written\n")


if __name__ == "__main__":
    main()
