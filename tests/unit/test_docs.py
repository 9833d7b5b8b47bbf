"""The documentation: every path, module and `Class.method` that it names exists, and its links have targets."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from services.settings import Settings

ROOT = Path(__file__).parents[2]
CODE = ("services", "pages", "benchmarks", "tests")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
FOLDERS = (".ci", ".streamlit", "assets", "db", "docs", *CODE)
ELSEWHERE = {
    ".streamlit/secrets.toml",  # a file of the operator
    *("memories.json", "preferences.json", "spaces.json"),  # files of an export
    *("parseInvoiceLines", "parse_invoice_lines"),  # names in an example question
    *("reasoning_content", "proxy_read_timeout", "lb_policy", "dial_timeout", "st.html"),
}

_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"[\w.-]+\.(py|mjs|js|sql|css|json|toml|md|html|txt)")
_PATH = re.compile(r"\.?[a-z_][\w-]*/[\w./-]*")
_NAME = re.compile(r"_?[A-Za-z]\w*_\w+|[A-Z][a-z]+[A-Z]\w+")
_MEMBER = re.compile(r"([A-Z]\w*[a-z]\w*)\.(\w+)(?![\w.])")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def paths():
    """Return the end of every path of the repository, with and without the suffix of a module."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [ROOT / folder, *(ROOT / folder).rglob("*")]
    parts = [path.relative_to(ROOT).parts for path in files if "node_modules" not in path.parts]
    ends = {"/".join(each[start:]) for each in parts for start in range(len(each))}
    return ends | {end.removesuffix(".py") for end in ends if "/" in end}


@cache
def source():
    """Return the code of the repository, each file by its path, without this file, which names things that do not exist."""
    return {
        path: path.read_text()
        for folder in (*CODE, "assets", "db")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".py", ".js", ".mjs", ".sql", ".css"}
        and "node_modules" not in path.parts
        and path != Path(__file__)
    }


@cache
def identifiers():
    return {name for text in source().values() for name in re.findall(r"\w+", text)}


@cache
def members():
    """Return the members of each class by its name, including inherited ones."""
    found, bases = {}, {}
    modules = [ast.parse(text) for path, text in source().items() if path.suffix == ".py"]
    for node in (node for module in modules for node in ast.walk(module)):
        if isinstance(node, ast.ClassDef):
            own, parents = found.setdefault(node.name, set()), bases.setdefault(node.name, set())
            parents.update(base.id for base in node.bases if isinstance(base, ast.Name))
            for each in ast.walk(node):
                if isinstance(each, ast.FunctionDef):
                    own.add(each.name)
                elif isinstance(each, ast.AnnAssign | ast.Assign):
                    targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                    own.update(getattr(name, "attr", getattr(name, "id", "")) for name in targets)
    return {
        name: own.union(*(found.get(each, ()) for each in bases[name]))
        for name, own in found.items()
    }


def named(page):
    """Return the code that *page* names: text between backquotes, and the paths of its indented blocks."""
    text = page.read_text()
    blocks = re.findall(r"^ {4,}(.*)", text, re.MULTILINE)
    words = (word.rstrip(",:;.") for line in blocks for word in line.split())
    return {*_SPAN.findall(text), *filter(_PATH.fullmatch, words)} - ELSEWHERE


@each_page
def test_every_path_that_docs_name_exists(page):
    written = {name for name in named(page) if _FILE.fullmatch(name) or _PATH.fullmatch(name)}
    spelled = {name for name in written if any(f'"{name}"' in text for text in source().values())}

    assert {name for name in written - spelled if name.rstrip("/") not in paths()} == set()


@each_page
def test_every_module_that_docs_name_exists(page):
    dotted = set(re.findall(rf"\b(?:{'|'.join(CODE)})(?:\.\w+)+", page.read_text()))

    assert {name for name in dotted if name.replace(".", "/") not in paths()} == set()


@pytest.mark.slow
@each_page
def test_every_member_that_docs_name_exists(page):
    dotted = [match for name in named(page) if (match := _MEMBER.match(name))]

    assert {match[0] for match in dotted if match[2] not in members().get(match[1], ())} == set()


@each_page
def test_every_name_that_docs_name_exists(page):
    names = {match[0] for name in named(page) if (match := _NAME.match(name))}

    assert {
        name
        for name in names - ELSEWHERE
        if not {name, name.removeprefix("DAYBOOK_").lower()} & identifiers()
    } == set()


def test_architecture_is_a_map():
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()

    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 110] == []


def test_every_setting_stands_in_its_page():
    page = (ROOT / "docs" / "settings.md").read_text()
    names = {*Settings.model_construct().model_dump(by_alias=True)}

    assert "DAYBOOK_MODEL" in names
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert set(re.findall(r"DAYBOOK_[A-Z_]+", page)) <= names


@each_page
def test_every_link_of_docs_leads_somewhere(page):
    lost = []
    for link in _LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if ":" not in path and not (target.exists() and (not anchor or anchor in anchors(target))):
            lost.append(link)

    assert lost == []


def anchors(page):
    """Return the anchors that GitHub gives to the headings of *page*."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_ci_runs_the_command_of_the_readme():
    _, test_it = (ROOT / "README.md").read_text().split("## Test it\n\n```\n")
    command = test_it.splitlines()[0].removeprefix("pip install uv && ")

    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == command
