"""README.md and index.html, which explain and list the files of a full export (docs/format.md)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from html import escape
from urllib.parse import quote

from services.portable.export import FORMAT

# the content security policy forbids scripts, as a second defence in addition to the escaping of titles
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Daybook: your chats</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
ul { padding: 0; list-style: none; }
li { margin: .5rem 0; }
</style>
</head>
<body>
<h1>Your chats</h1>
"""
_README = """# Your data in Daybook

Exported on {at}. `index.html` lists all chats by space and date: open it in a browser.

| file | has |
|---|---|
| `chats/` | the chats that are in no space |
| `spaces/` | a folder for each space, with its chats |
| `memories.json` | memories, space notes and chat notes |
| `spaces.json` | the spaces, with their instructions |
| `preferences.json` | your preferences |
| `usage.csv` | what each call of a model cost |
| `manifest.json` | the size and SHA-256 of every other file |

Each chat is two files. The `.md` file is for reading: the messages up to the newest one, with times in {zone}; a prompt
without a reply is marked "unanswered", or "reply unfinished" if its reply was still being written. The `.json` file is
for programs: all messages, other versions of them too. The names have the date on which the chat was begun.

Deleted and temporary chats are left out. Programs find the format under the name `{format}`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """The entry of one conversation in index.html."""

    path: str = field(repr=False)  # the path of the conversation's two files, without a suffix
    title: str = field(repr=False)
    begun_at: datetime
    messages: int
    is_archived: bool


def readme(at: datetime, zone: tzinfo) -> str:
    """Return the README.md of an export that began at the time *at*, which the file states in *zone*."""
    local = at.astimezone(zone)
    return _README.format(at=f"{local:%Y-%m-%d %H:%M %Z}", zone=zone, format=FORMAT)


def index_page(
    sections: Iterable[tuple[str, Sequence[IndexEntry]]], unreadable: int
) -> Iterator[str]:
    """Yield index.html in parts: the name of each section, followed by its conversations, newest first."""
    yield _HEAD
    for name, entries in sections:
        yield f"<h2><bdi>{escape(name)}</bdi></h2>\n<ul>\n"
        for entry in sorted(entries, key=lambda one: one.begun_at, reverse=True):
            yield _row(entry)
        yield "</ul>\n"
    if unreadable:
        yield f"<p>Chats that could not be read: {unreadable}. Their ids are in manifest.json.</p>\n"
    yield "</body>\n</html>\n"


def _row(entry: IndexEntry) -> str:
    notes = [_link(f"{entry.path}.json", "JSON"), f"messages: {entry.messages}"]
    if entry.is_archived:
        notes.append("archived")
    link = _link(f"{entry.path}.md", f"<bdi>{escape(entry.title)}</bdi>")
    return f"<li>{entry.begun_at:%Y-%m-%d} {link} ({', '.join(notes)})</li>\n"


def _link(path: str, content: str) -> str:
    return f'<a href="{quote(path)}">{content}</a>'
