"""What admins see of people, and that nobody else sees or asks it."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from services.domain import AccountRole
from tests.fakes import FakePerson, ScriptedModel
from tests.pages.conftest import ROOT

OpenApp = Callable[..., AppTest]


def admin(conversations):
    return FakePerson(conversations, ScriptedModel(), AccountRole.ADMIN, "ruth@daybook.test")


def links(app):
    return [link.label for link in app.sidebar.get("page_link")]


def test_an_admin_sees_counts_and_sums_and_no_content(open_app, conversations):
    conversations.hold("Secret title", "secret prompt", "secret reply")
    app = open_app(admin(conversations))
    assert links(app) == ["Memory", "People"]

    app.switch_page("pages/admin.py").run()

    assert [title.value for title in app.title] == ["People and spending"]
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["Person"] == "jonas@daybook.test"
    assert (row["Turns today"], row["Turns this month"]) == (3, 40)
    assert (row["Tokens in"], row["Tokens out"]) == (4_000, 1_600)
    assert (row["Cost today"], row["Cost this month"]) == (0.00078, 0.0104)
    assert (row["Daily cap"], row["Monthly cap"]) == (1.0, 10.0)
    assert "secret" not in str(app.main).lower()


def test_conversations_can_be_renamed_from_here_too(open_app, conversations):
    garden = conversations.hold("Garden", "One", "Two")
    app = open_app(admin(conversations)).switch_page("pages/admin.py").run()

    menus = {menu.key: menu for menu in app.get("menu_button")}
    menus[f"menu-{garden}"].click("Rename").run()
    app.text_input(key=f"title-{garden}").set_value("Roses").run()

    assert conversations.threads[garden].conversation.title == "Roses"


def test_for_others_the_page_is_not_there_and_nothing_is_asked(open_app, maya):
    app = open_app(maya)

    assert links(app) == ["Memory"]
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        app.switch_page("pages/admin.py")
    assert maya.usage.asked == 0


def test_the_page_itself_asks_nothing_for_others(maya, tab):
    tab.person = maya

    app = AppTest.from_file(str(ROOT / "pages/admin.py"), default_timeout=30).run()

    assert [error.value for error in app.error] == ["That conversation does not exist."]
    assert not app.dataframe
    assert maya.usage.asked == 0
