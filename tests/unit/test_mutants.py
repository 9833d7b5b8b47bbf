"""The list of mutants: each line finds its symbol and its test, and each member of a store's ports has a mutant."""

import pytest

from services.store.backend import Backend, GuardedAdministration, SignIn, UserBackend
from services.store.operator import Operator
from services.store.port import UserFigures
from services.store.rows import Rows
from services.store.supabase.administration import SupabaseAdministration
from services.store.supabase.backend import SupabaseBackend, SupabaseSignIn, SupabaseUser
from services.store.supabase.operator import SupabaseOperator
from services.store.supabase.rows import SupabaseRows
from services.store.supabase.usage import SupabaseUsage
from tests.mutants import ROOT, read

PORTS = {
    Backend: SupabaseBackend,
    SignIn: SupabaseSignIn,
    UserBackend: SupabaseUser,
    GuardedAdministration: SupabaseAdministration,
    Operator: SupabaseOperator,
    UserFigures: SupabaseUsage,
    Rows: SupabaseRows,
}
SUITES = (
    *("store/conformance/", "hosted/test_confirmation.py"),
    *("database/test_operate.py", "database/test_demo.py"),
)


def test_each_mutant_finds_its_place():
    lost = []
    for mutant in read():
        try:
            path, text = mutant.mutated(ROOT)
        except (LookupError, ValueError, SyntaxError) as error:
            lost.append(f"{mutant.symbol} | {mutant.edit}: {error}")
            continue
        assert text != path.read_text()
    assert lost == []


def test_test_of_each_mutant_exists():
    lost = []
    for mutant in read():
        path, name = mutant.test.partition("[")[0].split("::")
        if f"def {name}(" not in (ROOT / "tests" / path).read_text():
            lost.append(mutant.test)
    assert lost == []


def members(port):
    """Return the members of a protocol, with those of the protocols that it extends."""
    return {name for one in port.__mro__ for name in vars(one) if name[0] != "_"}


@pytest.mark.parametrize("port", PORTS)
def test_each_member_of_a_port_has_a_mutant_that_answers_at_once(port):
    its = f"{PORTS[port].__module__}:{PORTS[port].__name__}."
    mutants = [one for one in read() if one.symbol.startswith(its)]
    at_once = {one.symbol.removeprefix(its) for one in mutants if one.is_return}
    attributes = " ".join(one.edit for one in mutants if one.symbol == f"{its}__init__")

    held = at_once | {name for name in members(port) if f"self.{name} = " in attributes}

    assert held == members(port)
    assert all(one.test.startswith(SUITES) for one in mutants)
