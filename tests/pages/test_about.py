"""The dialog "About" of the account menu."""

from functools import partial

import pytest

from pages._parts import about
from services import bootstrap
from tests.pages.conftest import html, in_dialog


@pytest.fixture
def open_about(open_app, maya):
    def open_dialog(*, is_admin=False):
        app = open_app(maya)
        assert 'data-act="about"' in html(app)
        return in_dialog(app, partial(about.about_dialog, is_admin=is_admin)).run()

    return open_dialog


def said(app):
    (dialog,) = app.get("dialog")
    return "\n".join(text.value for text in dialog.markdown)


def test_dialog_has_version_protection_and_shortcuts(open_about):
    app = open_about()

    assert "Daybook 0.1.0" in said(app)
    assert said(app).count("\n* ") == 3
    assert "* Messages are encrypted" in said(app)
    assert "Ask your admin" in said(app)
    assert html(app.get("dialog")[0]).count("data-keys") == 1


def test_admin_is_sent_to_the_documentation(open_about):
    text = said(open_about(is_admin=True))

    assert "README" in text
    assert "Ask your admin" not in text


def test_plain_text_is_not_called_encrypted(open_about):
    bootstrap.current_app().is_plain = bootstrap.current_app().is_alone = True

    text = said(open_about())

    assert "Messages are stored as plain text." in text
    assert "encrypted" not in text
    assert "Admins" not in text  # there are none but the user
