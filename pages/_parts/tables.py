"""Tables whose cells are shown as formatted text but are sorted by value."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import words

_DASH = "\N{EN DASH}"
_FORMS: Mapping[type, Callable[..., str]] = {
    int: words.number,
    float: words.dollars_of,
    datetime: partial(words.moment, has_date=True),  # with the date, so that all times look alike
}


def draw(
    rows: Iterable[Mapping[str, object]],
    key: str,
    alt: str,
    *,
    forms: Mapping[str, Callable[..., str]] | None = None,
    missing: str = _DASH,
    columns: Mapping[str, object] | None = None,
) -> None:
    """Draw *rows*. Integers, floats (dollars) and times are formatted by type; other columns are formatted by a
    function in *forms*.

    *columns*: settings of some columns, such as width and whether they are pinned.
    """
    rows = list(rows)
    written = {
        name: _FORMS[type(value)]
        for row in rows
        for name, value in row.items()
        if type(value) in _FORMS
    }
    with st.container(key=key):
        cast(Any, st).dataframe(  # cast, because pandas' types are partly unknown
            cast(Any, pd.DataFrame(rows)).style.format(written | dict(forms or {}), na_rep=missing),
            hide_index=True,
            row_height=38,
            placeholder=missing,
            column_config=columns,
            alt=alt,
        )
