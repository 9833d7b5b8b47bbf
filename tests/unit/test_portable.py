"""Exports are complete and repeatable, and no text of a message can forge a part of the page."""

import hashlib
import io
import json
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID
from zipfile import BadZipFile, ZipFile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from services import portable
from services.domain import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    Outcome,
    Role,
    RunningSummary,
    Space,
    SpaceId,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    Usage,
    Window,
)
from services.domain.turns import OpenTurn, TurnState
from services.portable import Archive, ConversationExport, FreeNames, file_name
from tests.unit.test_memory import policies, said

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NOON = datetime(2026, 11, 20, 12, 0, 0, 1500, tzinfo=UTC)

TOMATOES = Conversation(
    id=ConversationId(UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")),
    title="Tomatoes",
    policy=Window(20),
    created_at=NOON,
    updated_at=NOON + timedelta(hours=1),
)


def message(seq, body="hello", parent=None, **changes):
    parent_id = None if parent is None else MessageId(UUID(int=parent))
    first = said(seq, body, parent_id=parent_id, created_at=NOON + timedelta(minutes=seq))
    return replace(first, **changes)


def thread_of(*messages, conversation=TOMATOES, **changes):
    return Thread(conversation=conversation, messages=messages, **changes)


def to_markdown(thread, costs=None, zone=UTC, thoughts=None):
    exported = ConversationExport(thread=thread, costs=costs or {}, thoughts=thoughts or {})
    return portable.to_markdown(exported, zone)


def to_json(thread, **stored):
    return portable.to_json(ConversationExport(thread=thread, **stored))


def thread(*bodies, title="Tomatoes", **changes):
    numbered = enumerate(bodies, 1)
    messages = (message(seq, body, seq - 1 or None, **changes) for seq, body in numbered)
    return thread_of(*messages, conversation=replace(TOMATOES, title=title))


# pieces with a meaning in Markdown
MARKS = """# |## You, 2026-11-20 12:01 UTC|```|````|~~~|``` python|`|    |> |- |1. |===|---|<!--|-->|<details>|<|$$
|![x](https://example.com/x.png)|[x]: https://example.com|\\|\t|\r|\r\n|\n|\n\n|\u2028"""
pieces = st.sampled_from(MARKS.split("|")) | st.text(max_size=8)
bodies = st.lists(pieces, max_size=12).map("".join)


def top_level(markdown):
    """Return the headings and the other lines outside of code blocks, by CommonMark's rule of fences."""
    headings, others, fence = [], [], ""
    for line in re.split(r"\r\n|\r|\n", markdown):
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if fence:
            closes = mark and mark[1][0] == fence[0] and len(mark[1]) >= len(fence)
            fence = "" if closes and not mark[2].strip(" \t") else fence
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        elif re.match(r" {0,3}#{1,6}([ \t]|$)", line):
            headings.append(line)
        else:
            others.append(line)
    assert not fence, "a code block is left open"
    return headings, others


# --- Markdown -------------------------------------------------------------------------------------------


def test_markdown_reads_in_order():
    markdown = to_markdown(thread("When do I water?", "In the evening.\n\n- slowly\n- often"))

    assert markdown == (
        "# Tomatoes\n\n"
        "## You, 2026-11-20 12:01 UTC\n\n"
        "When do I water?\n\n"
        "## Assistant, 2026-11-20 12:02 UTC\n\n"
        "In the evening.\n\n- slowly\n- often\n"
    )


def test_file_with_code_blocks_stays_one_block_in_a_reply():
    file = "# todo\n\n```sh\nls\n```\n\nMIT\n"
    said = f"So:\n\n```markdown\n{file}```\n\nEnd"

    markdown = to_markdown(thread(said, said))

    assert f"\n\nSo:\n\n````markdown\n{file}````\n\nEnd\n" in markdown  # the reply
    headings, _ = top_level(markdown)
    assert "# todo" not in headings


def test_thoughts_are_folded_above_their_reply():
    exported = thread("Why?", "So.")
    known = {exported.messages[1].id: Thoughts(text="Hm.", seconds=12)}

    assert to_markdown(exported, thoughts=known).endswith(
        "<details><summary>Thought for 12 s</summary>\n\n```text\nHm.\n```\n\n</details>\n\nSo.\n"
    )


@given(bodies)
@example("```\n````\n# x\n</details>")
def test_thoughts_forge_no_part_of_the_page(text):
    exported = thread("Why?", "So.")
    known = {exported.messages[1].id: Thoughts(text=text, seconds=12)}

    headings, others = top_level(to_markdown(exported, thoughts=known))

    assert len(headings) == 3
    assert [line for line in others if "details>" in line] == [
        "<details><summary>Thought for 12 s</summary>",
        "</details>",
    ]


@given(st.lists(bodies, max_size=4), bodies)
@example(["```\n````\n# x\n```"], "")
@example(["~~~\n```\n~~~\n# x"], "")
@example(["a\n---"], "")
@example(["```\ncode\n```\n```"], "")
@example(["``` a`\n# x\n```"], "")
def test_prompts_occur_verbatim_and_forge_no_heading(prompts, title):
    markdown = to_markdown(thread(*prompts, title=title, role=Role.USER))
    headings, others = top_level(markdown)

    position = 0
    for body in prompts:
        position = markdown.index(body, position) + len(body)
    assert headings[1:] == [
        f"## You, 2026-11-20 12:0{seq} UTC (unanswered)" for seq in range(1, len(prompts) + 1)
    ]
    assert not any("<" in line for line in others), "HTML can hide what follows"
    assert not any("![" in line for line in others), "an image tells its server who reads"
    assert not any(re.fullmatch(r"\s*[=-]+\s*", line) for line in others)


HARMLESS = [
    "plain words",
    "*stars*, `ticks`, [a link](https://example.com) and a | b",
    "one\n\ntwo\n\n1. three\n2. four",
    "before\n\n```python\nif a < b:  # not a heading\n    print('![')\n```\n\nafter",
    *("> quoted", "~~~\n# shell\n~~~", "C# is a language, 1 - 1 = 0"),
]
HARMFUL = [
    *("# heading", "   ### heading", "> # heading", "- # heading", "1. ## heading"),
    *("> heading\n> ---", "> heading\n> =", "- > heading\n  > --"),
    *("heading\n===", "heading\n-", "one\r# two", "one\u2028# two"),
    *("```\nleft open", "~~~\nleft open", "> ```\n> quoted", "````\n```\n````"),
    *("```\n  ````\n# out again\n```", "<!-- hidden", "text <details> text"),
    *("![x](https://example.com/x.png)", "[assistant]: https://example.com"),
    *("$$\nx", "%% hidden", ":::: note"),
]


@pytest.mark.parametrize("body", HARMLESS)
def test_harmless_prompt_is_written_plainly(body):
    assert f"UTC\n\n{body}\n" in to_markdown(thread(body, "So."))


@pytest.mark.parametrize("body", HARMFUL)
def test_harmful_prompt_is_put_in_a_code_block(body):
    markdown = to_markdown(thread(body, "the reply"))

    assert re.search(r"UTC\n\n(`{3,})markdown\n" + re.escape(body) + r"\n\1\n\n## Assist", markdown)
    assert "`" * 5 in markdown or "````" not in body


LONG = [
    *("a" * 20_001, "- " * 10_001, "`" * 20_001, "\u0301" * 20_001, " " * 20_001 + "a"),
    "[x]\n" * 100_001,
]


@pytest.mark.parametrize("body", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize(
    "messages", [lambda it: [it], lambda it: ["Why?", it]], ids=["prompt", "reply"]
)
def test_too_long_message_is_put_in_a_code_block_as_it_is(body, messages):
    markdown = to_markdown(thread(*messages(body)))

    assert f"`markdown\n{body}\n```" in markdown


def test_reply_headings_are_lowered_by_two_levels():
    markdown = to_markdown(thread("Why?", "# So\n\nif a <b>, $$x$$"))

    assert markdown.endswith("UTC\n\n### So\n\nif a \\<b>, $$x$$\n")


def test_footnotes_are_whole_where_two_replies_have_the_same_labels():
    markdown = to_markdown(
        thread("Why?", "[^1] [^1-4]\n\n[^1]: By rain.", "And?", "[^1]\n\n[^1]: In soil.")
    )

    assert "\n[^1-2] [^1-4]\n\n[^1-2]: By rain.\n" in markdown
    assert "\n[^1-4-4]\n\n[^1-4-4]: In soil.\n" in markdown


def test_ambiguous_reply_is_put_in_a_code_block():
    assert "\n\n```markdown\n$$ open\n```\n" in to_markdown(thread("Why?", "$$ open"))


@pytest.mark.parametrize(
    ("micro", "dollars"), [(0, "0.00"), (12, "0.000012"), (1_200, "0.0012"), (2_500_000, "2.50")]
)
def test_reply_heading_names_local_time_model_and_cost(micro, dollars):
    turn_id = TurnId(UUID(int=9))
    asked = thread_of(message(1), message(2, parent=1, turn_id=turn_id))
    cost = TurnCost("big*model", Usage(1, 2), micro)

    headings, _ = top_level(to_markdown(asked, {turn_id: cost}, ZoneInfo("Europe/Berlin")))

    assert headings[1:] == [
        "## You, 2026-11-20 13:01 CET",
        rf"## Assistant, 2026-11-20 13:02 CET · big*model · ${dollars}",
    ]


def test_markdown_has_the_visible_branch_only():
    replies = (message(seq, f"reply {seq}", 1, role=Role.ASSISTANT) for seq in (2, 3))

    markdown = to_markdown(thread_of(message(1), *replies))

    assert "reply 3" in markdown
    assert "reply 2" not in markdown


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, ""),
        ({"outcome": Outcome.CUT}, " (cut off at the length limit)"),
        ({"outcome": Outcome.STOPPED}, " (stopped)"),
        ({"outcome": Outcome.FAILED}, " (incomplete)"),
        ({"outcome": Outcome.INTERRUPTED}, " (interrupted)"),
        ({"is_verified": False, "body": ""}, " (failed its integrity check)"),
        (
            {"outcome": Outcome.STOPPED, "is_verified": False},
            " (stopped, failed its integrity check)",
        ),
        ({"role": Role.SYSTEM}, ""),
    ],
)
def test_heading_names_speaker_time_and_outcome(changes, note):
    headings, _ = top_level(to_markdown(thread_of(message(1), message(2, parent=1, **changes))))

    speaker, unanswered = ("Message", " (unanswered)") if "role" in changes else ("Assistant", "")
    expected = f"## {speaker}, 2026-11-20 12:02 UTC{note}"
    assert headings == ["# Tomatoes", f"## You, 2026-11-20 12:01 UTC{unanswered}", expected]


def test_unanswered_prompts_are_marked():
    asked = thread_of(
        message(1),
        message(2, parent=1, role=Role.USER),
        message(3, parent=2, role=Role.ASSISTANT),
        message(4, parent=3, role=Role.USER),
        message(5, "", parent=4, role=Role.ASSISTANT, has_thoughts=True),
        message(6, parent=5, role=Role.USER),
    )

    headings, _ = top_level(to_markdown(asked))

    marked = [heading for heading in headings if heading.endswith(" (unanswered)")]
    assert marked == [f"## You, 2026-11-20 12:0{seq} UTC (unanswered)" for seq in (1, 4, 6)]


@pytest.mark.parametrize(("prompt", "note"), [(1, "reply unfinished"), (9, "unanswered")])
def test_prompt_whose_reply_is_unfinished_says_so(prompt, note):
    prompt_id = MessageId(UUID(int=prompt))
    unfinished = OpenTurn(TurnId(UUID(int=3)), TurnState.STREAMING, prompt_id, NOON, NOON, "Sow")
    exported = ConversationExport(thread=thread("Why?"), unfinished=unfinished)

    assert f"12:01 UTC ({note})" in portable.to_markdown(exported, UTC)


def test_changed_conversation_is_marked():
    whole = thread("hello")

    assert "outside Daybook" not in to_markdown(whole)
    assert "changed or deleted outside Daybook" in to_markdown(replace(whole, is_whole=False))


@pytest.mark.parametrize(
    ("title", "heading"),
    [
        ("", "# Untitled chat"),
        (" \n ", "# Untitled chat"),
        ("Tomatoes\n## You", "# Tomatoes ## You"),
        ("<script> *a* [b](c)", r"# \<script> \*a\* \[b](c)"),
        (
            "It was $0.00 for [[snake_case]] 2 * 3 < 7 & C#",
            "# It was $0.00 for [[snake_case]] 2 * 3 < 7 & C#",
        ),
        (
            "$a$ `b` ![[c]] &lt; ==d== :smile: e ##",
            r"# \$a\$ \`b\` \![[c]] \&lt; \==d\== \:smile: e \##",
        ),
        ("Grüße 🍅", "# Grüße 🍅"),
    ],
)
def test_title_is_one_escaped_line(title, heading):
    assert to_markdown(thread(title=title)) == f"{heading}\n"


titles = st.lists(
    st.sampled_from([*'\\`*_{}[]<>#|~$!&%:=()^-a1 ."', "](", "[^", "&lt;", "<b>", "**", "http://e"])
    | st.characters(codec="utf-8", categories=("L", "P", "S", "N")),
    max_size=14,
).map("".join)


@pytest.mark.slow
@settings(max_examples=500)
@given(titles)
@example("a ##")
@example("#")
@example("\\")
@example("\\*a*")
@example("<http://e>")
@example("[b](c)")
def test_title_reads_as_it_is_stored(title):
    heading = to_markdown(thread(title=title))

    tokens = READER.parse(f"{heading}\n{heading}")

    words = " ".join(title.split()) or "Untitled chat"
    assert [one.type for one in tokens] == ["heading_open", "inline", "heading_close"] * 2
    assert {part.type for part in tokens[1].children} <= {"text", "text_special"}
    assert "".join(part.content for part in tokens[1].children) == words


# --- JSON -----------------------------------------------------------------------------------------------

moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001  # earlier UTC has no date for it
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)
threads = st.builds(
    Thread,
    conversation=st.builds(
        Conversation,
        policy=policies,
        pinned_at=st.none() | moments,
        created_at=moments,
        updated_at=moments,
        model=...,
        space_id=...,
        is_titled=...,
        is_archived=...,
    ),
    messages=st.lists(
        st.builds(Message, created_at=moments, outcome=..., turn_id=..., is_verified=...),
        max_size=3,
    ).map(tuple),
    is_whole=...,
    instructions=...,
    are_instructions_verified=...,
    summary=st.none() | st.builds(RunningSummary, made_at=moments),
    is_summary_verified=...,
)


def imported(text):
    """Return the thread of an export without its rev, which belongs to a database."""
    document = json.loads(text)
    assert document["format"] == "daybook/1"
    found = document["conversation"]
    of_thread = {name: found.pop(name) for name in Thread.__slots__ if name in found}
    messages = [
        {name: one[name] for name in Message.__slots__ if name in one}
        for one in document["messages"]
    ]
    return TypeAdapter(Thread).validate_python(
        of_thread | {"conversation": found | {"rev": 0}, "messages": messages}
    )


def test_json_is_read_by_people_too():
    text = to_json(thread("Wann säe ich Erbsen?"))

    assert '\n  "conversation": {\n    "' in text
    assert "Wann säe ich Erbsen?" in text


@pytest.mark.slow
@given(threads)
def test_json_restores_the_thread(exported):
    text = to_json(exported)
    back = imported(text)

    expected = replace(exported, conversation=replace(exported.conversation, rev=0))
    assert back == expected
    assert text.encode()
    assert to_json(exported) == text


def test_json_times_are_utc():
    here = timezone(timedelta(hours=-8))
    local = replace(TOMATOES, created_at=NOON.astimezone(here))

    assert to_json(thread_of(conversation=local)) == to_json(thread_of())


def test_json_has_space_usage_receipts_and_the_unfinished_reply():
    turn_id, prompt_id = TurnId(UUID(int=9)), MessageId(UUID(int=3))
    messages = message(1), message(2, parent=1, role=Role.ASSISTANT, turn_id=turn_id), message(3)
    space = Space(id=SpaceId(UUID(int=7)), name="Allotment", created_at=NOON)
    open_turn = OpenTurn(
        TurnId(UUID(int=10)), TurnState.LAPSED, prompt_id, NOON, NOON, "Sow", Thoughts(text="Hm.")
    )

    document = json.loads(
        to_json(
            thread_of(*messages),
            costs={turn_id: TurnCost("large", Usage(1200, 34, 800), 700)},
            receipts={turn_id: '{"policy": "window"}'},
            space=space,
            unfinished=open_turn,
        )
    )

    assert document["conversation"]["space_name"] == "Allotment"
    assert document["turns"] == [
        {
            "id": str(turn_id),
            "model": "large",
            "usage": {
                "input_tokens": 1200,
                "cached_tokens": 800,
                "output_tokens": 34,
                "cost_micro": 700,
            },
            "receipt": {"policy": "window"},
        }
    ]
    unfinished = document["unfinished"]
    assert (unfinished["prompt_id"], unfinished["body"]) == (str(prompt_id), "Sow")
    assert unfinished["thoughts"]["text"] == "Hm."


@pytest.mark.parametrize("is_verified", [True, False])
def test_json_marks_a_title_that_was_not_verified(is_verified):
    chat = thread_of(conversation=replace(TOMATOES, title="", is_verified=is_verified))

    assert json.loads(to_json(chat))["conversation"]["is_title_verified"] is is_verified


@pytest.mark.parametrize("text", ['{"summary": "They sow "peas"."}', r'{"a": "\ud800"}', "[]", ""])
def test_receipt_broken_by_hand_is_exported_as_null(text):
    turn_id = TurnId(UUID(int=9))
    exported = to_json(thread_of(message(1, turn_id=turn_id)), receipts={turn_id: text})

    assert exported.encode()
    assert json.loads(exported)["turns"][0]["receipt"] is None


def test_file_from_before_1980_is_dated_as_early_as_a_zip_file_can():
    archive = Archive()
    parts = [*archive.add("a.md", ["Peas"], datetime(1970, 1, 1, tzinfo=UTC))]
    whole = b"".join([*parts, *archive.end({}, (), NOON)])

    assert ZipFile(io.BytesIO(whole)).getinfo("a.md").date_time == (1980, 1, 1, 0, 0, 0)


def test_archive_is_read_back_with_the_hashes_of_its_manifest():
    archive = Archive()
    sent = [
        *archive.add("Grüße.txt", ["Sow ", "peas."], NOON),
        *archive.end({"facts": 2}, [], NOON),
    ]

    with ZipFile(io.BytesIO(b"".join(sent))) as read:
        assert read.testzip() is None
        manifest = json.loads(read.read("manifest.json"))
        assert read.read("Grüße.txt") == b"Sow peas."
        assert read.namelist()[-1] == "manifest.json"
        assert read.getinfo("Grüße.txt").date_time == (2026, 11, 20, 12, 0, 0)
    digest = hashlib.sha256(b"Sow peas.").hexdigest()
    assert manifest["files"] == {"Grüße.txt": {"bytes": 9, "sha256": digest}}
    assert (manifest["format"], manifest["counts"]) == ("daybook/1", {"facts": 2})


def test_archive_cut_short_does_not_open():
    archive = Archive()
    sent = b"".join([*archive.add("a.txt", ["peas"], NOON), *archive.end({}, [], NOON)])

    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(sent[:-1]))


def test_json_of_a_message_has_ids_marks_and_thoughts():
    reply = {"role": Role.ASSISTANT, "outcome": Outcome.STOPPED, "turn_id": TurnId(UUID(int=9))}
    messages = (message(1), message(2, "first", 1, **reply), message(3, "", 1, is_verified=False))
    known = {messages[1].id: Thoughts(text="Hm.", seconds=12, is_shortened=True)}

    document = json.loads(to_json(thread_of(*messages, is_whole=False), thoughts=known))

    assert [one["is_verified"] for one in document["messages"]] == [True, True, False]
    assert document["messages"][1] == {
        "id": "00000000-0000-0000-0000-000000000002",
        "seq": 2,
        "parent_id": "00000000-0000-0000-0000-000000000001",
        "turn_id": "00000000-0000-0000-0000-000000000009",
        "role": "assistant",
        "outcome": "stopped",
        "created_at": "2026-11-20T12:02:00.001500+00:00",
        "is_verified": True,
        "body": "first",
        "thoughts": {"text": "Hm.", "seconds": 12, "is_shortened": True, "is_verified": True},
    }
    assert document["conversation"]["policy"] == {"name": "window", "messages": 20}
    assert document["conversation"]["is_whole"] is False


# --- file names -----------------------------------------------------------------------------------------

names = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["../", "..\\", "/", "CON", "nul", "com1", "LPT³", ".", " ", "\0", "\n", "\u202e", "-"]
    )
    | st.sampled_from(["~", ":", "é", "🍅", "👩\u200d🌾", "a" * 50, "鍵" * 50, "\u0301"]),
    max_size=8,
).map("".join)


@given(names, st.sampled_from([".md", ".json"]))
@example("CON", ".md")
@example("con .tar", ".json")
@example("aux.", ".md")
def test_file_name_is_valid_on_every_system(title, suffix):
    name = file_name(title, suffix)
    stem = name.removesuffix(suffix)

    assert name == stem + suffix
    assert stem
    assert len(name.encode()) <= 120
    assert not set(name) & set('<>:"/\\|?*')
    assert all(unicodedata.category(char)[0] != "C" or char in "\u200c\u200d" for char in name)
    assert not any(char.isspace() and char != " " for char in name)
    assert stem == stem.strip(" .-~")
    assert unicodedata.normalize("NFC", name) == name
    first = stem.split(".")[0].strip().upper()
    assert first not in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    assert not re.fullmatch(r"(COM|LPT)[0-9¹²³]", first)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Tomatoes", "Tomatoes.md"),
        ("Grüße aus München 🍅", "Grüße aus München 🍅.md"),
        ("会話", "会話.md"),
        ("👩\u200d🌾 farm", "👩\u200d🌾 farm.md"),
        ("", "conversation.md"),
        (" . ", "conversation.md"),
        ("///", "conversation.md"),
        ("../../etc/passwd", "etc passwd.md"),
        ("C:\\Windows\\x", "C Windows x.md"),
        ("what? why*", "what why.md"),
        (".bashrc", "bashrc.md"),
        ("-rf", "rf.md"),
        ("a\0b\nc\td", "a b c d.md"),
        ("CON", "_CON.md"),
        ("con.fig", "_con.fig.md"),
        ("nul .x", "_nul .x.md"),
        ("lpt¹", "_lpt¹.md"),
        ("CONSOLE", "CONSOLE.md"),
        ("com10", "com10.md"),
        ("exe\u202etxt", "exe txt.md"),
        ("cafe\u0301", "café.md"),
        ("v1.2", "v1.2.md"),
    ],
)
def test_file_name_resembles_the_title(title, name):
    assert file_name(title, ".md") == name


@pytest.mark.parametrize("char", ["a", "ü", "鍵", "🍅"])
def test_long_title_is_cut_between_characters(char):
    name = file_name(char * 200, ".json")

    assert 110 <= len(name.encode()) <= 120
    assert 50 <= len(file_name(char * 200, "", 60).encode()) <= 60
    assert set(name.removesuffix(".json")) == {char}


@given(st.lists(names | st.sampled_from(["a", "A", "a (2)", "a" * 130, "a" * 118]), max_size=12))
@example(["a (2)", "a", "a"])
@example(["a" * 120] * 11)
def test_names_in_an_archive_are_free_where_case_is_ignored(titles):
    free = FreeNames()

    taken = [free.take("chats/", title, ".json") for title in titles]

    assert len({path.casefold() for path in taken}) == len(titles)
    assert all(path.startswith("chats/") and "/" not in path[6:] for path in taken)
    assert all(len(path[6:].encode()) <= 115 for path in taken)


def test_many_equal_titles_are_named_in_linear_time():
    free = FreeNames()

    taken = [free.take("", "New chat", ".json") for _ in range(2_000)]

    assert taken[:2] == ["New chat", "New chat (2)"]
    assert taken[-1] == "New chat (2000)"
