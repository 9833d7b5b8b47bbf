"""A diagram of the layers that store or see a user's data, from the browser to the model: one box of text per layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LINE, _PADDING, _GAP = 22, 16, 34  # pixels
_TITLE = 30
_HEAD = (
    '<marker id="db-head" viewBox="-7 -7 14 14" markerWidth="14" markerHeight="14" '
    'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M-6 -5 L0 0 L-6 5"></path></marker>'
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A box of the diagram. If *mark* is set, a script in the browser replaces the first of *lines*."""

    title: str
    lines: Sequence[str]
    mark: str = ""  # the attribute by which a script finds the first line

    @property
    def height(self) -> int:
        return _TITLE + _LINE * len(self.lines) + _PADDING


def diagram(tab: Layer, server: Layer, database: Layer, model: Layer) -> str:
    """Return an SVG of full width: the tab at the top, the server below it, the database and the model at the bottom.

    The texts are SVG text elements in reading order, for screen readers.
    """
    below_tab = tab.height + _GAP
    below_server = below_tab + server.height + _GAP
    height = below_server + max(database.height, model.height)
    parts = [
        _HEAD,
        _box(tab, "0", 0, "100%", tab.height),
        _arrow("50%", tab.height),
        _box(server, "0", below_tab, "100%", server.height),
        _arrow("24%", below_server - _GAP),
        _arrow("76%", below_server - _GAP),
        _box(database, "0", below_server, "48.5%", height - below_server),
        _box(model, "51.5%", below_server, "48.5%", height - below_server),
    ]
    return (
        f'<svg class="db-layers" width="100%" height="{height}" role="group" '
        f'aria-label="Where your data is">{"".join(parts)}</svg>'
    )


def _box(layer: Layer, x: str, y: int, width: str, height: int) -> str:
    texts = "".join(
        f'<text x="{_PADDING}" y="{_TITLE + _LINE * (number + 1) - 4}"'
        f"{' ' + layer.mark if layer.mark and not number else ''}>{escape(line)}</text>"
        for number, line in enumerate(layer.lines)
    )
    return (
        f'<svg x="{x}" y="{y}" width="{width}" height="{height}">'
        f'<rect x="1" y="1" width="100%" height="{height - 2}" rx="12"></rect>'
        f'<text x="{_PADDING}" y="{_TITLE - 4}" class="db-layer">{escape(layer.title)}</text>'
        f"{texts}</svg>"
    )


def _arrow(x: str, y: int) -> str:
    """Return a double-headed arrow between two boxes."""
    heads = 'marker-start="url(#db-head)" marker-end="url(#db-head)"'
    return f'<line x1="{x}" y1="{y + 6}" x2="{x}" y2="{y + _GAP - 6}" {heads}></line>'
