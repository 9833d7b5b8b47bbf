"""The words of queries and texts, and the index of messages in memory."""

import sqlite3
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import ConversationId, MessageId, Role
from services.search.index import Entry, Filter, MessageIndex
from services.search.snippets import snippet
from services.search.words import Query

MAY = datetime(2026, 5, 1, tzinfo=UTC)
GARDEN, KITCHEN = ConversationId(UUID(int=1)), ConversationId(UUID(int=2))


def entry(n, body, chat=GARDEN, role=Role.USER, at=None):
    return Entry(
        message_id=MessageId(UUID(int=n)),
        conversation_id=chat,
        role=role,
        created_at=at or MAY + timedelta(minutes=n),
        body=body,
    )


def index_of(*bodies):
    index = MessageIndex()
    index.add(entry(n, body) for n, body in enumerate(bodies))
    return index


def numbers(found):
    return [hit.message_id.int for hit in found]


def marked(index, query):
    """Return the words that are marked in the snippet of the newest hit."""
    (hit,) = index.newest(Query.read(query), 1)
    shown = snippet(hit.body, index.wanted(Query.read(query)))
    return [shown.text[begin:end] for begin, end in shown.ranges]


@pytest.mark.parametrize(
    ("query", "other"),
    [
        ("error404", "error405"),
        ("communication", "community"),
        ("international", "internationalization"),
    ],
)
def test_word_that_only_begins_alike_is_no_form(query, other):
    assert index_of(other).count(Query.read(f"{query} ")) == 0


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("The gardens are wide.", "garden", ["gardens"]),
        ("I went there.", "go", ["went"]),
        ("A gardener came.", "garde", ["gardener"]),
        ("Łódź and Größe, Café", "groesse", None),
        ("Łódź and Größe, Café", "lodz grosse cafe", ["Łódź", "Größe", "Café"]),
        ("You don't say", "don't", ["don't"]),
        ("parse_lines of x", "lines", ["lines"]),
        ("soft\u00adhyphen", "softhyphen", ["soft\u00adhyphen"]),
        ("The year 2026-03-04 was", '"2026-03-04"', ["2026-03-04"]),
        ("stop words: to be or not to be", '"to be or not"', ["to be or not"]),
        ("東京都の天気", "東京", ["東京"]),
        ("東京、大阪", "東京、大阪", ["東京、大阪"]),
        ("東京都の天気", "都", ["都の"]),
        ("東京都の天気", "気", ["気"]),
        ("東京都の天気", "東都", None),
        ("สวัสดีครับ", "สวัสดี", ["สวัสดี"]),
        ("한국어 문장입니다", "한국어", ["한국어"]),
        ("नमस्ते दुनिया", "दुनिया", ["दुनिया"]),
        ("नमस्ते दुनिया", "दुन दान", None),
        ("wide garden", '"garden wide"', None),
        ("wide garden", "garden -wide", None),
        ("wide garden", '-"garden wide" wide', ["wide"]),
        ("x near y", "NEAR/ x", ["x", "near"]),
        ("folded: garden", "folded:garden", ["folded: garden"]),
        ("a OR b", "OR", ["OR"]),
        ("\ufb01ne \uff46ull", "fine full", ["\ufb01ne", "\uff46ull"]),
    ],
)
def test_word_finds_a_text(text, query, words):
    index = index_of(text)

    assert index.count(Query.read(query)) == (words is not None)
    if words is not None:
        assert marked(index, query) == words


@pytest.mark.parametrize(
    "query", ["", " ", '"', '"' * 500, "-garden", "\x00", "*", "-", '-"', "()"]
)
def test_query_without_a_word_finds_nothing(query):
    index = index_of("garden")

    assert Query.read(query).is_empty
    assert index.newest(Query.read(query), 5) == index.best(Query.read(query), 5) == ()
    assert index.count(Query.read(query)) == 0


@given(st.text(max_size=300) | st.text("\"'*^(){}:-+NEARORAND/ a\x00", max_size=60))
def test_no_query_is_an_error(typed):
    index = index_of("a near or and " * 3, typed)

    index.newest(Query.read(typed), 5)
    index.best(Query.read(typed), 5)


@given(st.text(max_size=200))
def test_text_is_found_by_each_of_its_words_and_marked(text):
    index = index_of(text)

    for typed in text.split()[:5]:
        if not Query.read(typed.strip('"-')).is_empty:
            assert index.count(Query.read(f'"{typed.replace(chr(34), "")}"')) == 1


def test_at_most_32_words_of_a_query_count():
    index = index_of(" ".join(f"w{n}" for n in range(32)))

    assert index.count(Query.read(" ".join(f"w{n}" for n in range(10_000)))) == 1


def test_newest_come_first_and_go_on_below():
    index = index_of(*["garden"] * 5)
    first = index.newest(Query.read("garden"), 2)

    assert numbers(first) == [4, 3]
    assert numbers(index.newest(Query.read("garden"), 9, below=first[-1].position)) == [2, 1, 0]


def test_messages_of_one_moment_are_all_found():
    index = MessageIndex()
    index.add(entry(n, "garden", at=MAY) for n in range(3))

    assert sorted(numbers(index.newest(Query.read("garden"), 9))) == [0, 1, 2]


def test_message_that_says_it_more_often_is_better():
    index = index_of("garden " * 5, "a garden and many other words about nothing")

    assert numbers(index.best(Query.read("garden"), 9)) == [0, 1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(conversations={KITCHEN}), [3, 2]),
        (Filter(conversations=()), []),
        (Filter(role=Role.ASSISTANT), [3, 1]),
        (Filter(since=MAY + timedelta(minutes=2)), [3, 2]),
        (Filter(until=MAY + timedelta(minutes=2)), [1, 0]),
    ],
)
def test_filters_hold_for_both_orders(where, expected):
    index = MessageIndex()
    roles = Role.USER, Role.ASSISTANT
    index.add(entry(n, "garden", (GARDEN, KITCHEN)[n // 2], roles[n % 2]) for n in range(4))

    assert numbers(index.newest(Query.read("garden"), 9, where)) == expected
    assert numbers(index.best(Query.read("garden"), 9, where)) == expected


def test_message_is_indexed_once():
    index = MessageIndex()
    for _ in range(2):
        index.add([entry(1, "garden")])

    assert index.count(Query.read("garden")) == 1


def test_removed_messages_are_found_no_more_and_leave_no_word(monkeypatch):
    opened, connect = list[sqlite3.Connection](), sqlite3.connect

    def kept(*places, **options):
        opened.append(connect(*places, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", kept)
    index = index_of("garden")
    index.add([entry(5, "garden parrot", KITCHEN), entry(6, "garden canary", KITCHEN)])

    index.remove_conversation(KITCHEN)
    assert numbers(index.newest(Query.read("garden"), 9)) == [0]

    for _ in index.purge():
        pass
    (connection,) = opened
    held = connection.serialize()
    assert b"garden" in held
    assert not any(word in held for word in (b"canary", b"parrot"))


def test_failed_addition_adds_nothing():
    index = index_of()

    def entries():
        yield entry(1, "garden")
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        index.add(entries())

    assert index.count(Query.read("garden")) == 0


def test_snippet_begins_before_the_first_place():
    text = "one two three " * 40 + "needle\nhere " + "and so on " * 40
    index = index_of(text)
    shown = snippet(text, index.wanted(Query.read("needle")))

    begin, end = shown.ranges[0]
    assert shown.text[begin:end] == "needle"
    assert begin <= 41
    assert len(shown.text) == 200
    assert "\n" not in shown.text
    assert not shown.is_begun
    assert not shown.is_ended


def test_overlapping_places_are_marked_once():
    text = "東京都"
    index = index_of(text)

    assert snippet(text, index.wanted(Query.read("東京都 京都"))).ranges == ((0, 3),)


def test_index_says_nothing_of_its_texts():
    index = index_of("canary")
    (hit,) = index.newest(Query.read("canary"), 1)

    assert "canary" not in repr(
        (index, hit, entry(1, "canary"), snippet("canary", index.wanted(Query.read("canary"))))
    )
    assert index.size > 0
