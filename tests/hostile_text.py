"""Texts that make careless code slow, and a table of all functions that read a text by regular expressions or Unicode
properties.
"""

import ast
import gc
import importlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, reduce
from itertools import count, product
from pathlib import Path
from typing import cast
from uuid import UUID

from pages._parts import prompts, safe_md
from services.domain import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    Role,
    Thread,
    Window,
    safe_text,
)
from services.embedded import supabase_api
from services.errors import AppError
from services.llm import chunks, model_spec, refusals
from services.memory import blocks, continuing, dates
from services.memory.recall import Passage, RecallIndex
from services.memory.tokens import RegexCounter
from services.portable import ConversationExport, FreeNames, tables, to_markdown
from services.search.index import MessageIndex
from services.search.words import Query

ROOT = Path(__file__).parents[1]
_NOW = datetime(2026, 11, 23, tzinfo=UTC)
_ID = UUID(int=1)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

Shape = Callable[[int], str]
Reader = Callable[[str], object]


def repeated(unit: str) -> Shape:
    """Return a shape that repeats *unit*."""
    size = len(unit.encode(errors="surrogatepass"))
    return lambda length: unit * (length // size)


def growing(before: str, mark: str, after: str = "") -> Shape:
    """Return a shape with runs of *mark*, each longer than the one before."""

    def shape(length: int) -> str:
        parts: list[str] = []
        for times in count(1):
            part = f"{before}{mark * times}{after}"
            if length < len(part):
                break
            length -= len(part)
            parts.append(part)
        return "".join(parts)

    return shape


def different_words(length: int) -> str:
    """Return words of 6 and of 11 letters."""
    words = map("".join, product(_LETTERS, repeat=3))
    pairs = (f"{word}wxy {word}mnopqrst " for word in words)
    return "".join(pair for pair, _ in zip(pairs, range(length // 19), strict=False))


# shapes: functions from a size in bytes to a text
SHAPES: dict[str, Shape] = {
    "marks": repeated("\u0301\u0323"),
    "U+FDFA": repeated("\ufdfa"),
    "blanks": lambda length: f"a{' ' * (length - 2)}a",
    ">": repeated("> "),
    "- ": repeated("- "),
    "backticks": growing(" ", "`"),
    "*": repeated("*"),
    "digits": repeated("1"),
    "brackets": repeated("["),
    "one line": repeated("a"),
    "short lines": repeated("a\n"),
    "surrogates": repeated("\ud800"),
    "right-to-left marks": repeated("\u200f\u0627"),
    "zero-width": repeated("\u200b"),
    "tabs": repeated("\t"),
    "tables": repeated("|-|\n"),
    "nested quotes": growing("\n", ">", "a"),
    "HTML": repeated("<a "),
    "$": growing(" ", "$", "a"),
    "~": growing("\n", "~", "a"),
    # each of these was slow in some function
    "two marks in one": repeated("\u0f73"),
    "open brackets": repeated("[\n"),
    "links": repeated("]("),
    "images": repeated('[![a](https://e.org "'),
    "a far address": lambda length: f"[a]({' ' * (length - 5)}a",
    "headings": repeated("# "),
    "list items": repeated("1) - > "),
    "words": different_words,
    "months": repeated("May "),
    "limits": repeated("max_tokens "),
    "formulas": repeated("\\("),
    "formulas of two lines": repeated("\\(a\n"),
    "variables": repeated("$A/"),
    "names of emoji": repeated(":a"),
    "names of emoji in a path": lambda length: "/" + ":a:" * (length // 3 - 1),
    "bold ideographs": repeated("。**是"),
    "fences": repeated("```md\n"),
    "addresses": repeated("a@a."),
}

# functions whose only argument is the text, by module
_PLAIN = {
    "pages._parts.context_words": "of_summary",
    "pages._parts.prompts": "as_typed",
    "pages._parts.inline_md": (
        "separate_marks holds_formulas rewrite _is_prose _tex _without_last_brackets"
    ),
    "pages._parts.safe_md": "body label _name_safely _scheme",
    "services.crypto.vault": "_encoded_text decode_base64url token_version",
    "services.domain.addresses": "checked_address",
    "services.domain.code_fences": "lengthened",
    "services.domain.safe_text": "has_many_marks is_readable pieces tick_pairs",
    "services.llm.known_models": "find_known",
    "services.llm.model_spec": "_ungrouped normalized read_limits",
    "services.llm.refusals": "_decoded",
    "services.memory.extracts": "_sentences count_words is_long",
    "services.memory.facts": "_is_fact _normalize _parse may_state_facts",
    "services.memory.terms": "_folded _parts base has_time is_question stem stems words",
    "services.memory.titles": "_bared _shortened clean_title first_words",
    "services.memory.tokens": "_kinds _longest_size _size _weigh_ascii min_tokens",
    "services.portable.export": "_contained _escape",
    "services.search.words": "fold indexed words_of Query.read",
    "services.portable.replies": "_escaped footnote_labels lower",
    "services.settings": "_environment_name _is_secret",
    "services.store.supabase.migrations": "_essence",
}


def _find(name: str) -> Callable[..., object]:
    """Return a function by its name in the table, even a private one, because some functions are called only below a limit."""
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


def _with(name: str, *arguments: object) -> Reader:
    """Return the function *name* with *arguments* after the text."""
    function = _find(name)
    return lambda text: function(text, *arguments)


def _each(name: str) -> Reader:
    """Return the function *name*, whose result is an iterator that is read to its end."""
    function = _find(name)
    return lambda text: deque(cast(Iterator[object], function(text)), maxlen=0)


def _remember(text: str) -> RecallIndex:
    passage = Passage(MessageId(_ID), ConversationId(_ID), 1, Role.USER, text, _NOW)
    index = RecallIndex()
    index.add([passage])
    return index


def _export(role: Role) -> Reader:
    def export(text: str) -> str:
        message = Message(
            id=MessageId(_ID), seq=1, parent_id=None, role=role, body=text, created_at=_NOW
        )
        conversation = Conversation(
            id=ConversationId(_ID), title=text, policy=Window(), created_at=_NOW, updated_at=_NOW
        )
        thread = Thread(conversation=conversation, messages=(message,))
        return to_markdown(ConversationExport(thread=thread), UTC)

    return export


def _each_refusal(text: str) -> None:
    for pattern in ("_NAMED_CONTEXT", "_NAMED_REPLY", "_NAMED_PROMPT"):
        model_spec._named(text, _find(f"services.llm.model_spec:{pattern}"), 1, "")


def _each_rule(text: str) -> None:
    refusal = refusals.read_refusal(400, text, "")
    assert refusal.failure
    assert refusal.strict.failure
    assert refusal.wait_seconds >= 0
    refusals.RequestForm().after(refusal)
    refusals.shorter_reply(refusal, 9_000)


def _each_document(text: str) -> None:
    with suppress(ValueError):
        deque(chunks.decoded(text), maxlen=0)


def _each_day(text: str) -> None:
    for _ in dates.named_days(text, range(2020, 2022)):
        pass


def _after(line: str) -> Reader:
    def add(text: str) -> None:
        lowering = _lowering()
        lowering.add(line, may_break=True)
        lowering.add(text, may_break=True)

    return add


_TRAITS = safe_md._Traits(could_be_image=True, has_formulas=True)
_lowering = partial(_find("services.portable.replies:_Lowering"), {"1": "1-2"}, {"1"})
_counter = RegexCounter

# by module and name: how the function reads a text
READERS: dict[str, Reader] = {
    f"{module}:{name}": _find(f"{module}:{name}")
    for module, names in _PLAIN.items()
    for name in names.split()
} | {
    "pages._parts.inline_md:_is_formula": _with("pages._parts.inline_md:_is_formula", "5", "th"),
    "pages._parts.inline_md:_is_variable": _with("pages._parts.inline_md:_is_variable", "B"),
    "pages._parts.safe_md:_is_underline": _with("pages._parts.safe_md:_is_underline", ["a"]),
    "pages._parts.safe_md:_part_address": _with("pages._parts.safe_md:_part_address", "data:"),
    "pages._parts.safe_md:_part_addresses": lambda text: safe_md._part_addresses(
        text, frozenset(), are_linked=True
    ),
    "pages._parts.safe_md:_code": _with("pages._parts.safe_md:_code", True),
    "pages._parts.safe_md:_ends": _with("pages._parts.safe_md:_ends", "```"),
    "pages._parts.safe_md:_guard": _with("pages._parts.safe_md:_guard", True),
    "pages._parts.safe_md:_line": _with("pages._parts.safe_md:_line", _TRAITS),
    "pages._parts.safe_md:_words": lambda text: safe_md._words(text, 0, len(text), _TRAITS),
    "services.domain.safe_text:normalize": partial(safe_text.normalize, "NFKC"),
    "services.llm.chunks:decoded": _each_document,
    "services.llm.chunks:_EventDecoder.decode": chunks._EventDecoder().decode,
    "services.llm.failure_details:_code": _with(
        "services.llm.failure_details:_code", "a secret key", "llm.test"
    ),
    "services.llm.failure_details:_readable": _with(
        "services.llm.failure_details:_readable", "a secret key", "llm.test"
    ),
    "services.llm.failure_details:_without_key": _with(
        "services.llm.failure_details:_without_key", "a secret key"
    ),
    "services.llm.model_spec:_named": _each_refusal,
    "services.llm.refusals:read_refusal": _each_rule,
    "services.llm.refusals:_shared_phrases": lambda text: refusals._shared_phrases(text, text),
    "services.llm.refusals:_without_quotes": lambda text: refusals._without_quotes(
        f": {text}", refusals._shared_phrases(text, text)
    ),
    "services.memory.compaction:clean_summary": _with(
        "services.memory.compaction:clean_summary", 1_000_000
    ),
    "services.memory.continuing:spaced": _with("services.memory.continuing:spaced", "a"),
    "services.memory.continuing:without_repeated_space": lambda text: deque(
        continuing.without_repeated_space(text, text), maxlen=0
    ),
    "services.memory.dates:named_days": _each_day,
    "services.memory.extracts:find_extract": _with(
        "services.memory.extracts:find_extract", {"a", "may"}
    ),
    "services.memory.facts:source_of": _with("services.memory.facts:source_of", ()),
    "services.memory.facts:_shortened": _with("services.memory.facts:_shortened", 1000),
    "services.memory.facts:parse_fact_changes": _with(
        "services.memory.facts:parse_fact_changes", (), (), ()
    ),
    "services.search.index:MessageIndex._forms_of_word": lambda text: MessageIndex()._forms_of_word(
        text
    ),
    "services.search.index:MessageIndex._note": lambda text: MessageIndex()._note(text),
    "services.search.index:MessageIndex._search": lambda text: MessageIndex().newest(
        Query.read(text), 1
    ),
    "services.search.words:_parts": _each("services.search.words:_parts"),
    "services.search.words:_runs": _each("services.search.words:_runs"),
    "services.search.words:placed_words": _each("services.search.words:placed_words"),
    "services.memory.terms:names": _with("services.memory.terms:names", 5),
    "services.memory.titles:_beginning": _with("services.memory.titles:_beginning", 800),
    "services.memory.tokens:RegexCounter.count": lambda text: _counter().count(text),
    "services.portable.export:_fenced": _with("services.portable.export:_fenced", "text"),
    "services.portable.file_names:_shortened": _with("services.portable.file_names:_shortened", 99),
    "services.portable.file_names:file_name": _with(
        "services.portable.file_names:file_name", ".md"
    ),
    "services.portable.file_names:FreeNames.take": partial(FreeNames().take, "chats/"),
    "services.portable.replies:_ends_in_code": lambda text: list(
        _find("services.portable.replies:_ends_in_code")(text.split("\n"))
    ),
    "services.portable.replies:_Lowering.add": lambda text: _lowering().add(text, may_break=True),
    "services.portable.replies:_Lowering._add_code": _after("```"),
    "services.portable.replies:_Lowering._add_underline": _after("a"),
    "services.portable.replies:_Lowering._open_fence": lambda text: _lowering().add(
        f"```{text}", may_break=True
    ),
    "services.portable.replies:_Lowering._escape_line": lambda text: _lowering()._escape_line(text),
    "services.portable.replies:_Lowering._is_indented_code": lambda text: (
        _lowering()._is_indented_code(text)
    ),
    # added by hand: they have no such parameter, or their modules import neither `re` nor
    # `unicodedata`
    "pages._parts.prompts:_text": lambda text: prompts._text([text]),
    "pages._parts.safe_md:_loose": lambda text: list(safe_md._loose(text.split("\n"), True, True)),
    "pages._parts.safe_md:_prose": lambda text: list(
        safe_md._prose(text.split("\n"), _TRAITS, False)
    ),
    "services.memory.blocks:quote": blocks.quote,
    "services.memory.recall:RecallIndex.search": lambda text: _remember(text).search(text),
    "services.portable.export:a prompt": _export(Role.USER),
    "services.portable.export:a reply": _export(Role.ASSISTANT),
    "services.portable.tables:_cell": tables._cell,
    "services.embedded.supabase_api:safe_to_log": lambda text: supabase_api.safe_to_log(
        text.encode(errors="surrogatepass")
    ),
}

_OWN = "a word of the app itself"
_SENT = "passed on as it is"
_SEALED = "sealed or opened byte by byte"
# functions with such a parameter that read no text of users, with the reason
NO_READERS: dict[str, str] = {
    "pages._parts.inline_md:_is_cjk": "one character",
    "pages._parts.inline_md:_kind": "one character",
    "pages._parts.safe_md:_link_image": _OWN,
    "services.domain.models:ModelSettings.of": "the name of a model",
    "services.llm.failure_details:details_of": "a key and a host",
    "services.llm.failure_details:FailureLog.add": "the name of a model",
    "services.llm.refusals:_first": _OWN,
    "pages._parts.safe_md:draw": "`body`, then drawn",
    "services.crypto.vault:Vault._opened": _SEALED,
    "services.crypto.vault:Vault.open": _SEALED,
    "services.crypto.vault:Vault.open_head": _SEALED,
    "services.crypto.vault:Vault.open_octets": _SEALED,
    "services.crypto.vault:Vault.piece_mac": _SEALED,
    "services.crypto.vault:Vault.row_mac": _SEALED,
    "services.crypto.vault:Vault.seal": _SEALED,
    "services.crypto.vault:Vault.unwrap": _SEALED,
    "services.crypto.vault:_names": _OWN,
    "services.crypto.vault:subkey": _OWN,
    "services.embedded.supabase_api:SupabaseApi._command": _OWN,
    "services.embedded.supabase_api:SupabaseApi._get": _OWN,
    "services.embedded.supabase_api:_npm_ci.count": "a line of npm's output",
    "services.llm.model_spec:read_models": "compared with names of models",
    "services.llm.model_spec:value_at": _OWN,
    "services.llm.chunks:_after_fields": "a part of `decoded`",
    "services.llm.model_spec:first_unquoted": "a part of `read_limits`",
    "services.llm.refusals:_words": _OWN,
    "services.memory.compaction:Compaction.summary": "`clean_summary`",
    "services.memory.compaction:_apart": _OWN,
    "services.memory.compaction:_count_chunk": _OWN,
    "services.memory.compaction:_in_place": _OWN,
    "services.memory.compaction:_with_quotes": _OWN,
    "services.memory.tokens:KindCounter.kinds": "a protocol",
    "services.memory.ranking:Columns.named_days": "a part of `RecallIndex.search`",
    "services.memory.ranking:Columns.weights": "a part of `RecallIndex.search`",
    "services.memory.tokens:RegexCounter._figures": "a part of `RegexCounter.count`",
    "services.memory.tokens:RegexCounter.bound": "`_longest_size`",
    "services.memory.tokens:RegexCounter.kinds": "`_kinds`",
    "services.memory.tokens:TokenCounter.bound": "a protocol",
    "services.memory.tokens:TokenCounter.count": "a protocol",
    "services.portable.export:_heading": _OWN,
    "services.portable.export:documents_to_json": _OWN,
    "services.portable.file_names:_is_visible": "one character",
    "services.portable.replies:_Lowering._escape_inline": "a part of `_escape_line`",
    "services.portable.replies:_split": _OWN,
    "services.settings:Settings._check_policy": "a setting",
    "services.settings:Settings._check_store": "a setting",
    "services.store.files.journal:Operation.put": "a name of a document, or a key",
    "services.store.files.store:FilesBlock._locate": "a name of a document, or a key",
    "services.store.files.store:FilesBlock._names": "a name of a document, or a key",
    "services.store.files.store:FilesBlock._path": "a name of a document, or a key",
    "services.store.files.store:FilesBlock._rows": "a name of a document, or a key",
    "services.store.files.store:FilesBlock._stored": "a name of a document, or a key",
    "services.store.files.store:FilesBlock.operations.locate": "a name of a document, or a key",
    "services.store.files.store:FilesStore._is_kept": "a name of a document, or a key",
    "services.store.files.store:FilesStore._keep": "a name of a document, or a key",
    "services.store.files.store:FilesStore._parsed": "a name of a document, or a key",
    "services.store.files.store:FilesStore._note_name": "a name of a document, or a key",
    "services.store.files.store:FilesStore._write": "a name of a document, or a key",
    "services.store.files.store:FilesStore.document": "a name of a document, or a key",
    "services.store.files.store:FilesStore.names": "a name of a document, or a key",
    "services.store.supabase.auth:exchange": _SENT,
    "services.store.supabase.auth:sign_in": _SENT,
    "services.store.supabase.auth:sign_up": _SENT,
    "services.store.supabase.copying:SupabaseCopy._number_of": _OWN,
    "services.store.supabase.copying:SupabaseCopy.number": _OWN,
    "services.store.supabase.copying:_add_user": _OWN,
    "services.store.supabase.copying:_copy": _OWN,
    "services.store.supabase.copying:_kept": _OWN,
    "services.store.supabase.copying:_run": _OWN,
    "services.store.supabase.migrations:_has_table": _OWN,
}


def readers_in_code() -> Iterator[str]:
    """Yield each function with a `str` parameter in a module of the product that imports `re` or `unicodedata`."""
    for folder in ("services", "pages"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text("utf-8")
            if not re.search(r"\b(re|unicodedata)\b", source):
                continue  # imports neither; parsing takes longer
            tree = ast.parse(source)
            if _imports(tree) & {"re", "unicodedata"}:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield from (f"{module}:{name}" for name in _takes_text(tree, ()))


def _imports(tree: ast.AST) -> set[str]:
    nodes = list(ast.walk(tree))
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def _takes_text(node: ast.AST, within: tuple[str, ...]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = within
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = (*within, child.name)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            every = (part for part in ast.walk(child.args) if isinstance(part, ast.arg))
            if any(_is_text(one.annotation) for one in every):
                yield ".".join(inner)
        yield from _takes_text(child, inner)


def _is_text(annotation: ast.expr | None) -> bool:
    """Return True for `str`, and for a union with it."""
    if isinstance(annotation, ast.BinOp):
        return _is_text(annotation.left) or _is_text(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "str"


def cpu_seconds(reader: Reader, text: str, times: int = 1) -> float:
    """Return the CPU time of this thread while *reader* reads *text*; the mean of several *times* in a row."""
    gc.disable()  # a collection takes as long as the objects of all tests need, and only the larger text may cause one
    began = time.thread_time()
    try:
        for _ in range(times):
            with suppress(AppError, UnicodeError):  # a refusal is a valid answer
                if isinstance(read := reader(text), Iterator):
                    deque(read, maxlen=0)
        return (time.thread_time() - began) / times
    finally:
        gc.enable()
