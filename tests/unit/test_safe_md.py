"""Markdown of models and users: it may link to other hosts, but loads nothing from them."""

# ruff: noqa: RUF001 (punctuation of Chinese and Japanese)

import re
from pathlib import Path

import pytest
import streamlit
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from streamlit.string_util import clean_text

from pages._parts import inline_md, safe_md

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
READER.validateLink = lambda _: True  # the tests decide which links are safe
# pieces with a meaning in Markdown, HTML, TeX or Streamlit
MARKS = r"""` `` ``` ```` ~~~ ```mermaid $ $$ ~ \begin{align} \end{align} ::: :::x <!-- -->
<div> </div> '> \ ! [ ![ ] ![a](http://e/i) ![a][b] ![b] ](http://e/i) :material/home: :streamlit: :red[ me@example.org
\( \) \[ \] x"""
# and pieces that are rewritten so that they are drawn as they were written
WRITTEN = """! [ ]( ) ** “ 」 是 。 https://e/a www.e/a -- -> >= ~= :red :a: = $ 5 \\ | `"""
LINES = ["\n", "\n\n", " ", "  ", "   ", "    ", "\t", "\r", "\u00a0", "- ", "1. ", "> ", "# "]
LINES += ["| ", "~~~ merm&#97;id", "[b]: http://e/i", "<a title='", "<img src=http://e/i>"]
ADDRESSES = [
    "[x](",
    "[x]: ",
    "[x]:",
    "[x]",
    "<",
    ">",
    ")",
    "data:a",
    "d&#97;ta:a",
    "FILE:///a",
    "blob\\:a",
]
ADDRESSES += [
    "[x](<data:a b>)",
    "<file:///a>",
    "`",
    "```",
    "\n",
    "\n",
    "\n\n",
    " ",
    "- ",
    "> ",
    "    ",
    "\\",
    "!",
    "a",
]
HOSTILE = st.lists(st.sampled_from([*LINES, *MARKS.split()]), max_size=24).map("".join)
HOSTILE |= st.lists(st.sampled_from([*WRITTEN.split(), " ", "\n", "- "]), max_size=12).map("".join)


def tokens(markdown):
    found = READER.parse(markdown)
    return found + [child for token in found for child in token.children or ()]


def code(markdown):
    kinds = ("fence", "code_block", "code_inline")
    return [token.content for token in tokens(markdown) if token.type in kinds]


def text(markdown):
    return "".join(token.content for token in tokens(markdown) if token.type == "text")


@given(HOSTILE)
@example("![a][b]\n\n[b]: http://e/i")
@example("\u2028```mermaid\nA@{img: 'http://e/i'}")
@example("x\n  ```\n```\n![a](http://e/i)\n```mermaid")
@example("- a\n  ```\n![a](http://e/i)\n```")
@example("\\`![a](http://e/i)`")
@example("<!--\n```\n-->\n![a](http://e/i)\n```")
@example("<a title='`'>![a](http://e/i)`")
@example("`x\n- ![a](http://e/i)`")
@example("    ```\n![a][b]\n\n[b]: http://e/i")
@example("$$```mermaid$$")
@example("!www.e.org/i?secret。")
@example("`a`!www.e.org/i。")
def test_no_text_becomes_an_image_or_a_diagram(hostile):
    found = tokens(clean_text(safe_md.body(hostile)))

    assert not [token for token in found if token.type == "image"]
    assert not [token for token in found if "mermaid" in token.info]


@given(HOSTILE | st.lists(st.sampled_from(ADDRESSES), max_size=14).map("".join))
@example("[x](\n> data:a)")
@example("[x]:\n- data:a\n\n[x]")
@example("[x]\n\n[x]:\u00a0data:a")
@example("\\[\\]")
@example("<a title='`'>[x](data:a)`")
def test_no_text_becomes_a_link_to_local_data(hostile):
    links = [
        token for token in tokens(clean_text(safe_md.body(hostile))) if token.type == "link_open"
    ]

    assert not [one for one in links if re.match("(data|file|blob):", one.attrs["href"].lower())]


@pytest.mark.parametrize(
    "address", ["https://e.org/a:b", "mailto:me@e.org", "tel:+41", "/a", "#a", "a/b:c", "//e.org"]
)
def test_links_of_the_web_stay(address):
    assert safe_md.body(f"[a]({address})") == f"[a]({address})"


@pytest.mark.parametrize(
    ("image", "link"),
    [
        ("![a house](https://e.org/i.png)", "[a house (image on e.org)](https://e.org/i.png)"),
        ('![](https://e.org/i_(1).png "x")', "[Image on e.org](https://e.org/i_(1).png)"),
        (
            "[![b](https://i.org/b)](https://e.org)",
            "[b (image on i.org)](https://i.org/b) [b](https://e.org)",
        ),
        ("![a](https://me@e.org)", "[a (image on e.org)](https://me@e.org)"),
        ("![a](https://e.org&sol;@i.org)", "[a (image on e.org)](https://e.org&sol;@i.org)"),
        # browsers read these backslashes as the end of the host
        (r"![a](https://e.org\@i.org)", r"!\[a](https://e.org\@i.org)"),
        ("!![a](https://e.org)", r"!\[a (image on e.org)](https://e.org)"),
        ("![a](data:image/png,x)", "!\\[a]\u2060(data:image/png,x)"),
    ],
)
def test_image_is_a_link_that_names_its_host(image, link):
    assert safe_md.body(image) == link


@pytest.mark.parametrize("line", ["a", "`", "\u0301", "![a](http://e/i) "])
def test_too_long_text_is_not_read_as_markdown(line):
    assert safe_md.body("\n".join([line * (20_000 // len(line))] * 2)) is not None
    assert safe_md.body(line * 20_001) is None


@given(HOSTILE)
@example("$$```mermaid$$")
@example("\\(\u00a0\\)")
@example("\\($\\)")
@example("\\(a\\)\\(b\\)$c$")
@example("$\\\\$")
@example("\\(\\(a\\)\\)")
@example("--www.e/a”")
@example("\\!www.e.org/a。")
@example("mailto:a[_$$")
def test_safe_text_is_unchanged_but_for_joiners(hostile):
    # without brackets, because formulas in brackets may nest
    once = safe_md.body(hostile.replace("\\[", "").replace("\\]", ""))

    assert safe_md.body(once).replace("\u2060", "") == once.replace("\u2060", "")


@pytest.mark.parametrize("before", ["", "So:\n", "- one\n  - two\n", "> so\n"])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_fence_keeps_its_text(fence, before):
    held = "![a](b)\n[x]: y\n:red[z] :material/home: \\(x\\)\n- ```mermaid\n"

    shown = code(safe_md.body(f"{before}{fence}markdown\n{held}{fence}\n![c](d)"))

    assert shown == [held]


@pytest.mark.parametrize(
    "rust", ["`vec![1, 2]`", "1. So:\n   ```rust\n   #![allow(x)]\n   let v = vec![1];\n   ```"]
)
def test_code_that_cannot_be_an_image_keeps_its_text(rust):
    assert safe_md.body(rust) == rust


def test_image_in_code_is_shown_as_written():
    shown = code(safe_md.body("Write `![a](b)`."))

    assert [said.replace("\u2060", "") for said in shown] == ["![a](b)"]


@pytest.mark.parametrize(
    ("written", "safe"),
    [
        ("See ![a](b)", r"See !\[a](b)"),
        ("![a]\n\n[a]: b", "!\\[a]\n\n[a]: b"),
        ("wow! [a](b)", "wow! [a](b)"),
        (":red[a] at 12:30", r"\:red[a] at 12:30"),
        (":::note\nhi", "\\:\\:\\:note\nhi"),
        ("a :material/home: b", "a :\u2060material/home: b"),
        ("```Mermaid\nA-->B\n```", "```diagram\nA-->B\n```"),
        ("- ~~~ mer&#109;aid", "- ~~~text"),
        ("```C++\nx\n```", "```cpp\nx\n```"),
        (r"so \(x^2\) and \( y \)", "so $x^2$ and $y$"),
        ("\\[ x \\]", "$$\nx\n$$"),
        ("\\[\nx\n\\]", "$$\nx\n$$"),
        ("$a![b]$", "$a![b]$"),
        ("a\r\nb\rc", "a\nb\nc"),
    ],
)
def test_directives_formulas_and_line_ends(written, safe):
    assert safe_md.body(written) == safe


@pytest.mark.parametrize(
    ("written", "safe"),
    [
        ("$5 today and $7 tomorrow, $x^2$", r"\$5 today and \$7 tomorrow, $x^2$"),
        ("$20,000 and US$30,000", r"\$20,000 and US\$30,000"),
        ("from $5-$7, $ x $, $$$ and $$", r"from \$5-\$7, \$ x \$, \$\$\$ and \$\$"),
        (r"\$5 and `$x$ ~y~` as they are", r"\$5 and `$x$ ~y~` as they are"),
        (r"it is $\text{\$5}$", r"it is $\text{\char36{}5}$"),
        (r"\(x\)2 and \(\)", r"$$x$$2 and \(\)"),
        ("https://e.org/~a?b=$c is ~1 $", r"https://e.org/~a?b=$c is \~1 \$"),
        ("```\n$5 and ~a~\n```", "```\n$5 and ~a~\n```"),
    ],
)
def test_dollar_opens_a_formula_by_pandocs_rule(written, safe):
    assert safe_md.body(written) == safe


@pytest.mark.parametrize(
    ("written", "safe"),
    [
        ("$HOME/bin:$PATH, $A/$B, ($A)($B)", r"\$HOME/bin:\$PATH, \$A/\$B, (\$A)(\$B)"),
        ("${A}/${B} and $(ls):$(pwd)", r"\${A}/\${B} and \$(ls):\$(pwd)"),
        ("5$/7$, 5$-7$ and (5$ or 7$)", r"5\$/7\$, 5\$-7\$ and (5\$ or 7\$)"),
        ("from $5 to 7$, $5 million$", r"from \$5 to 7\$, \$5 million\$"),
        ("echo $$ and $$", r"echo \$\$ and \$\$"),
        ("PATH=$HOME/bin:$(pwd), $d/$(ls $f)", r"PATH=\$HOME/bin:\$(pwd), \$d/\$(ls \$f)"),
        ("${A}/$(b) and $1/$@ x", r"\${A}/\$(b) and \$1/\$@ x"),
        ("从5$到10$, 10$—20$, 10$~20$", r"从5\$到10\$, 10\$—20\$, 10\$\~20\$"),
        ("$5$ or $7.50$", r"\$5\$ or \$7.50\$"),
        ("$5-10$, $5k$, $5+$ or $5/mo$", r"\$5-10\$, \$5k\$, \$5+\$ or \$5/mo\$"),
        ("$5到7$ or $2bn$", r"\$5到7\$ or \$2bn\$"),
        ("echo $$A/$$B", r"echo \$\$A/\$\$B"),
        ("http://a_b:$P/$X, http://a.b:$P/$X", r"http://a_b:\$P/\$X, http://a.b:$P/$X"),
        ("5$→7$, 5$+7$, 5k$→7k$, 5$=7$", r"5\$→7\$, 5\$+7\$, 5k\$→7k\$, 5\$=7\$"),
        ("$U@$H, $F|$B, $P+$X, $A%$B", r"\$U@\$H, \$F|\$B, \$P+\$X, \$A%\$B"),
        ("$A+$B、$C、$D→$E", r"\$A+\$B、\$C、\$D→\$E"),
        ("${x}_${y}, ${A:-x}/${B[0]}", r"\${x}_\${y}, \${A:-x}/\${B[0]}"),
        ("${{ a.b }}/${{ c }}, $(A)/$B", r"\${{ a.b }}/\${{ c }}, \$(A)/\$B"),
        ("$a[$i]+$b['c'].$d, $i*$j", r"\$a[\$i]+\$b['c'].\$d, \$i*\$j"),
        ("SUM($A$1:$B$2) of $1:$x", r"SUM(\$A\$1:\$B\$2) of \$1:\$x"),
        ("http://$H:$P/$X, https://$B.e.org/$C", r"http://\$H:\$P/\$X, https://\$B.e.org/\$C"),
        ("pg://$U:$P@$H/$D, https://e.org/$a/$b", r"pg://\$U:\$P@\$H/\$D, https://e.org/$a/$b"),
        ("$A+B$, $x_1$, $a$, $E=mc^2$", "$A+B$, $x_1$, $a$, $E=mc^2$"),
        ("$x^+$a, $f(x)$is, $n!$is, $|x|$is", "$x^+$a, $f(x)$is, $n!$is, $|x|$is"),
        ("$a$/$b$, $1/2$, 若$a<b$则$c$", "$a$/$b$, $1/2$, 若$a<b$则$c$"),
        ("$5-10$ or $5k$ of $x$, $50%$", "$5-10$ or $5k$ of $x$, $50\\%$"),
        ("$x = 5$, so $8$ ways", "$x = 5$, so $8$ ways"),
        ("$x$ of $10$kg, $12$V, 2$<5$", "$x$ of $10$kg, $12$V, 2$<5$"),
        ("_where $x$_, $k$NN, $n$gram, $]0,1[$", "_where $x$_, $k$NN, $n$gram, $]0,1[$"),
        ("$(abc)^2$, $(mod 7)$, $(sin x)^2$", "$(abc)^2$, $(mod 7)$, $(sin x)^2$"),
        ("$sup S - inf T$, $5 kHz$, $v / t$", "$sup S - inf T$, $5 kHz$, $v / t$"),
        ("the $n$th, 2$\\pi$, $x$-axis, $$a b$$", "the $n$th, 2$\\pi$, $x$-axis, $$a b$$"),
        ("$n \\text{ if } x$, $x mod n$, $AB + CD$", "$n \\text{ if } x$, $x mod n$, $AB + CD$"),
    ],
)
def test_dollars_of_variables_and_prices_open_no_formula(written, safe):
    assert safe_md.body(written) == safe


@pytest.mark.parametrize(
    ("written", "safe"),
    [
        (r"so \[ x \] is \[y = 1\]", "so $x$ is $y = 1$"),
        ("- **A**: \\[ a \\]", "- **A**: $a$"),
        (r"see \[1\], \[x\](y) and \(as said\)", r"see \[1\], \[x\](y) and \(as said\)"),
        ("> a \\(x +\n> y\\) b \\[ z\n+ 1 \\]", "> a $x + y$ b $z + 1$"),
        ("a \\(x\n\ny\\)", "a \\(x\n\ny\\)"),
        ("> a \\(x\n>\n> y\\)", "> a \\(x\n>\n> y\\)"),
        ("is \\(x + y\n\\) or \\[\na = b\n\\] here", "is $x + y$ or $a = b$ here"),
        ("so \\[ a = b\n\\] holds\n\n\\[\na\n\\], so", "so $a = b$ holds\n\n$a$, so"),
        (
            "so \\[\n\\begin{aligned}\na &= b\n\\end{aligned}\n\\] holds",
            "so $\\begin{aligned} a &= b \\end{aligned}$ holds",
        ),
        ("We have \\[E = mc^2\\]: energy, \\[1\\]: no", "We have $E = mc^2$: energy, \\[1\\]: no"),
        ("| \\(a |\n|---|\n| c\\) |", "| \\(a |\n|---|\n| c\\) |"),
        (r"\(x\)s", "$x$s"),
        (r"\(AB\)y and \(8\), \('x\)", "${AB}$y and $8$, ${'x}$"),
    ],
)
def test_brackets_of_tex_within_a_sentence_hold_a_formula(written, safe):
    assert safe_md.body(written) == safe


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("这是**“取”**的。", "这是**¤“取”¤**的。"),
        ("**注意：**请 **重**。", "**注意：¤**请 **重**。"),
        ("~~旧。~~新 *「か」*な", "~~旧。¤~~新 *「か」¤*な"),
        ("**「가」**는 **`a`**的 用**`b`**", "**「가」¤**는 **`a`¤**的 用**¤`b`**"),
        ("a**(b)**c, **a:**b", "a**(b)**c, **a:**b"),
        ("见**https://e.org**的", "见**¤<https://e.org>¤**的"),
        (
            "~~https://e.org/~~或**www.e.org，b**",
            "~~¤<https://e.org/>¤¤~~或**¤[www.e.org](http://www.e.org)，b**",
        ),
    ],
)
def test_bold_text_is_closed_beside_cjk_punctuation(written, shown):
    assert safe_md.body(written).replace("\u2060", "¤") == shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("见https://e.org/a。好", "见<https://e.org/a>。好"),
        ("(https://e.org/b)，www.e.org：", "(<https://e.org/b>)，[www.e.org](http://www.e.org)："),
        ("https://e.org/a, and b。", "https://e.org/a, and b。"),
        ("https://e.org/a——b，https://e.org/c〜d", "<https://e.org/a>——b，<https://e.org/c>〜d"),
        ("https://e.org/a．HTTPS://e.org︰b", "<https://e.org/a>．<HTTPS://e.org>︰b"),
        (
            "WWW.e.org‧https://e.org/ア・イ。",
            "[WWW.e.org](http://WWW.e.org)‧<https://e.org/ア・イ>。",
        ),
        ("[a](https://e.org/（b）)**“c”**d", "[a](https://e.org/（b）)**“c”**d"),
        ("<https://e.org/a>。", "<https://e.org/a>。"),
        ("[看：https://e.org/](https://e.org/)。", "[看：https://e.org/](https://e.org/)。"),
        ("[a https://e.org，b](https://e.org)", "[a https://e.org，b](https://e.org)"),
    ],
)
def test_bare_link_ends_before_wide_punctuation(written, shown):
    assert safe_md.body(written) == shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a -> b <- c <-> d -- e", "a ->¤ b <-¤ c <->¤ d --¤ e"),
        ("5 >= 4 <= 5 ~= 5\n--\n\n| a -- |\n|--|", "5 >=¤ 4 <=¤ 5 \\~=¤ 5\n--\n\n| a --¤ |\n|--|"),
        (r"a \-> b &gt;= c", r"a \->¤ b &gt;=¤ c"),
        ("So\n\n--\nMaya\n\n> --", "So\n\n--¤\nMaya\n\n> --¤"),
        ("| a |\n|--|\n| -- |\n| - |", "| a |\n|--|\n| --¤ |\n| - |"),
        ("- - -\n\n-- -", "- - -\n\n-- -"),
        ("a<br>-> b --<br>c", "a<br>->¤ b ¤--<br>c"),
        ("$n$>= 3, $A$->$B$, a ->https://e.org", "$n$>=¤ 3, $A$-¤>$B$, a ¤->https://e.org"),
        ('x --**"a"** y', 'x ¤--**"a"** y'),
        ("[a](/p/:key:/b)", "[a](/p/:key:/b)"),
        ("a->b a--b `x -> y` $a <= b$ --a", "a->b a--b `x -> y` $a <= b$ --a"),
        ("set :red and x:help, :red-ish", "set \\:red and x\\:help, :red-ish"),
        ("https://e.org/:red <mailto:help@e.org>", "https://e.org/:red <mailto:help@e.org>"),
        ("at 12:30[1] and a\\\\:x[b]", "at 12\\:30[1] and a\\\\\\:x[b]"),
        ("/a/:key:/b x[:key:] 1:100:2", "/a/:¤key:/b x[:¤key:] 1:¤100:2"),
        (":red:red ::red:red: a:key:small", ":¤red\\:red ::¤red:¤red: a:¤key\\:small"),
        (":tada: (:tada::key:) 12:30:45", ":tada: (:tada::key:) 12:30:45"),
        ("好：:tada:！中:key:文", "好：:tada:！中:¤key:文"),
        ("- ::before\n> :::note\n> 1. ::x", "- \\:\\:before\n> \\:\\:\\:note\n> 1. \\:\\:x"),
    ],
)
def test_what_streamlit_adds_to_markdown_is_undone(written, shown):
    assert safe_md.body(written).replace("\u2060", "¤") == shown


def test_names_and_marks_were_read_in_this_bundle():
    bundle = Path(streamlit.__file__).parent / "static" / "static" / "js"

    assert [path.name for path in bundle.glob("StreamlitMarkdown.*.js")] == [inline_md.BUNDLE], (
        "Streamlit's Markdown has changed: read its directives, marks and plugins again"
    )


@pytest.mark.parametrize(
    ("written", "safe"),
    [
        ("$$x$$", "$$\nx\n$$"),
        ("$$\nx $y$ $5\n\n~z~\n$$\n$5", "$$\nx $y$ $5\n\n~z~\n$$\n\\$5"),
        ("- $$x$$\n> \\[ y \\]", "- $$\n  x\n  $$\n> $$\n> y\n> $$"),
        ("\\begin{align}\na&=b\n\\end{align}", "$$\n\\begin{align}\na&=b\n\\end{align}\n$$"),
        ("$$\\begin{cases}\nx\n\\end{cases}$$", "$$\n\\begin{cases}\nx\n\\end{cases}\n$$"),
        ("\\begin{align}\na&=b", "\\begin{align}\na&=b"),
        ("\\begin{verbatim}\na\n\\end{verbatim}", "\\begin{verbatim}\na\n\\end{verbatim}"),
        ("$$ is what I like\n\nso ~ so", "\\$\\$ is what I like\n\nso \\~ so"),
    ],
)
def test_display_formula_stands_between_lines_of_dollars(written, safe):
    assert safe_md.body(written) == safe
    assert safe_md.body(safe) == safe


def test_single_tildes_strike_nothing_through():
    assert text(safe_md.body("H~2~O, ~~gone~~")) == "H~2~O, gone"


@given(st.text(max_size=80) | HOSTILE)
def test_label_is_plain_text_on_one_line(title):
    shown = safe_md.label(title, limit=500)

    kinds = {token.type for token in tokens(shown)} - {"paragraph_open", "paragraph_close"}
    assert kinds <= {"inline", "text", "text_special"}
    assert "\n" not in shown


@pytest.mark.parametrize(
    "loaded", ["a@b.org", "https://e.org", "www.e.org", ":material/home:", ":streamlit:"]
)
def test_label_contains_no_streamlit_directive_after_unescaping(loaded):
    shown = safe_md.label(loaded)

    assert loaded not in shown.replace("\\", "")
    assert shown.replace("\\", "").replace("\u2060", "") == loaded


def test_marks_in_a_label_stay_as_written():
    assert safe_md.label("a -> b --").replace("\u2060", "¤") == r"a \-\>¤ b \-\-¤"


def test_long_label_is_cut():
    assert safe_md.label("word " * 30, limit=12) == "word word w…"
