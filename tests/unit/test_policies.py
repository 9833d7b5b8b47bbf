"""The declaration of context policies: a fifth policy needs its declaration, its selection and its words."""

import ast
import re
from dataclasses import replace

import pytest

from pages._parts import words
from services.domain import Full, Purpose, policies
from services.domain.policies import POLICIES, PolicyKind, policy_named
from services.memory import planner
from services.memory.layout import complete_pairs
from services.memory.receipt import Receipt
from tests.chats import receipt_of, settled
from tests.fakes import choose
from tests.stack.apps import ROOT

KINDS = {name for name, value in vars(policies).items() if isinstance(value, PolicyKind)}
PAGES = ("memory", "settings", "format", "glossary")


def select_first_and_last(policy, base, history):
    """Choose the first pairs of a conversation, half as many as the number in *policy*, and the last pair."""
    pairs = complete_pairs(history.past, after=history.reset_seq)
    shown = [*pairs[: policy.messages // 2], *pairs[-1:]] if len(pairs) > 2 else pairs
    return planner.Selection(replace(base, pairs=shown), shown, history.reset_seq, 0)


@pytest.fixture
def ends(monkeypatch):
    """Declare a fifth policy."""
    kind = PolicyKind("ends", messages=2, needs_summary=True)
    monkeypatch.setitem(POLICIES, kind.name, kind)
    monkeypatch.setitem(planner.SELECTIONS, kind.name, select_first_and_last)
    text = words.PolicyText("Both ends", "Sends the first {least} messages and the last")
    monkeypatch.setitem(words.POLICIES, kind.name, text)
    return kind


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", *(f"{who} {n}" for n in range(4) for who in "QA"))


def test_turn_is_planned_by_a_fifth_policy(maya, ends, garden):
    maya.store.conversations.set_policy(garden, ends(4))

    assert maya.chat.begin(garden, "And now?").wait(20)

    thread = maya.database.thread(garden)
    kept = maya.store.turns.receipts([thread.tip], garden)
    receipt = Receipt.from_json(kept[thread.tip.turn_id])
    assert thread.conversation.policy == policy_named("ends", 4)
    assert (receipt.policy, [seq for seq, _ in receipt.verbatim]) == ("ends", [1, 2, 3, 4, 7, 8])


def test_policy_reads_the_prefix_seq_of_its_own_last_turn(maya, ends, garden, monkeypatch):
    def count_turns(policy, base, history):
        selection = select_first_and_last(policy, base, history)
        return replace(selection, prefix_seq=history.prefix_seq + 1)

    monkeypatch.setitem(planner.SELECTIONS, ends.name, count_turns)
    stored = []
    for policy in (ends(4), ends(4), ends(4), Full(), ends(4)):
        maya.store.conversations.set_policy(garden, policy)
        thread = settled(maya.chat, maya.chat.begin(garden, "And now?"))
        stored.append(receipt_of(maya.chat, thread).prefix_seq)

    assert stored == [1, 2, 3, 0, 1]


def test_fifth_policy_asks_for_the_summary_that_it_needs(maya, ends, garden, monkeypatch):
    claimed = []
    monkeypatch.setattr(maya.tasks.registry, "claim", lambda purpose, *_: claimed.append(purpose))
    maya.store.conversations.set_policy(garden, ends())

    assert maya.chat.begin(garden, "And now?").wait(20)

    assert Purpose.SUMMARY in claimed


def test_fifth_policy_is_offered_and_named(maya, ends):
    assert maya.choices.policies()[-1] == ends(20)
    assert words.policy_name(ends()) == "Both ends"


def test_fifth_policy_may_be_the_usual_one(maya, ends):
    choose(maya.store.profile, policy=ends(), window_messages=6)
    assert maya.choices.usual_policy() == ends(6)


@pytest.mark.parametrize("page", PAGES)
def test_docs_name_every_declared_policy(page):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    assert [name for name in POLICIES if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["services", "pages"])
def test_no_code_asks_which_policy_it_is(folder):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if asks_for_a_kind(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    "comparison",
    [
        "isinstance(policy, Window)",
        "policy.kind is Window",
        "policy.kind in (Full, policies.Window)",
        "Window() != policy",
        "policy.name == Window.name",
        "policy.name == 'window'",
        "policy.name in {'full', 'window'}",
    ],
)
def test_comparison_with_a_policy_is_found(comparison):
    assert asks_for_a_kind(ast.parse(comparison, mode="eval").body)


@pytest.mark.parametrize("pattern", ["Window()", "Window.name", "MemoryPolicy(name='window')"])
def test_pattern_of_a_policy_is_found(pattern):
    tree = ast.parse(f"match policy:\n    case {pattern}:\n        pass")
    assert any(asks_for_a_kind(node) for node in ast.walk(tree))


def asks_for_a_kind(node):
    """Return True for a comparison or a pattern with a declared policy, such as `kind is Window` and `case "window"`."""
    match node:
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass" | "type"), args=[*_, asked]):
            pass
        case ast.Compare() | ast.MatchClass() | ast.MatchValue():
            asked = node
        case _:
            return False
    return any(names_a_kind(part) for part in ast.walk(asked))


def names_a_kind(node):
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in KINDS
        case ast.Constant(value=str(name)):
            return name in POLICIES
    return False
