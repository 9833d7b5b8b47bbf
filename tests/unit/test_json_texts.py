"""JSON with users' texts is read without a cache."""

from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter

from services.domain.json_texts import read_json


@dataclass
class Named:
    name: str


FORM = TypeAdapter(Named)


def test_short_strings_are_in_no_cache_of_the_process():
    one, two = (read_json(FORM, '{"name": "Rex"}') for _ in range(2))

    assert one == two == Named("Rex")
    assert one.name is not two.name


@pytest.mark.parametrize("text", ["null", "[]", '{"name": 1}', "{", ""])
def test_text_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="validation error"):
        read_json(FORM, text)
