"""The list of mutants: each line finds its symbol and its test, and each member of a store's ports has a mutant."""

import os
import subprocess
import sys

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_plain_run_has_the_test_of_each_mutant(request):
    named = {f"tests/{mutant.test}" for mutant in read()}
    run = {item.nodeid for item in request.session.items}
    if not {test.partition("::")[0] for test in named} <= {
        nodeid.partition("::")[0] for nodeid in run
    }:
        run = _collected({test.partition("::")[0] for test in named})
    run |= {nodeid.partition("[")[0] for nodeid in run}

    assert named - run == set()


def _collected(files):
    """Return the node ids that a plain run has of *files*."""
    command = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-q", *sorted(files)]
    plain = {name: value for name, value in os.environ.items() if name != "DAYBOOK_TESTS"}
    ran = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines())


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
