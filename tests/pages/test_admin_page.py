"""The admin page: totals, for admins alone."""

from services.domain import AccountRole
from tests.fakes import FakePerson, ScriptedModel
from tests.pages.conftest import chosen


def admin(database):
    return FakePerson(database, ScriptedModel(), AccountRole.ADMIN, "ruth@daybook.test")


def links(app):
    return [link.label for link in app.sidebar.get("page_link")]


def test_admin_sees_totals_and_no_content(open_app, database):
    database.hold("Secret title", "secret prompt", "secret reply")
    app = open_app(admin(database))
    assert links(app) == ["Memory", "Usage", "Users"]

    app.switch_page("pages/admin.py").run()

    assert [title.value for title in app.title] == ["Users and usage"]
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["User"] == "jonas@daybook.test"
    assert (row["Messages today"], row["Messages this month"]) == (3, 40)
    assert (row["Input tokens"], row["Output tokens"]) == (4_000, 1_600)
    assert (row["Cost today"], row["Cost this month"]) == (0.00078, 0.0104)
    assert (row["Daily limit"], row["Monthly limit"]) == (1.0, 10.0)
    assert "secret" not in str(app.main).lower()


def test_conversation_is_renamed_on_the_admin_page(open_app, database, garden):
    app = open_app(admin(database)).switch_page("pages/admin.py").run()

    chosen(app, garden, "Rename")
    app.text_input(key=f"title-{garden}").set_value("Roses").run()

    assert database.thread(garden).conversation.title == "Roses"


def test_other_users_are_refused_without_a_query(open_app, maya):
    app = open_app(maya)
    assert links(app) == ["Memory", "Usage"]

    app.switch_page("pages/admin.py").run()

    assert [title.value for title in app.title] == ["Admins only"]
    assert not app.dataframe
    assert maya.usage.asked == 0
    app.button(key="way-out").click().run()
    assert app.chat_input(key="composer")
