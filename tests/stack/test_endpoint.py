"""The console of a whole app whose model endpoint does not answer."""

from services.embedded.folders import free_port
from tests.stack.apps import App, running, until


def test_console_names_silent_endpoint_above_the_address(tmp_path, cache):
    at = f"127.0.0.1:{free_port()}/v1"
    environment = {
        "DAYBOOK_STORE": f"sqlite:{tmp_path}/daybook.db",
        "OPENAI_BASE_URL": f"http://name-7781@{at}?key=key-7781",
        "OPENAI_API_KEY": "none",
        "DAYBOOK_MODEL": "none",
    }
    app = App(tmp_path / "home", cache, environment=environment)
    away = f"No answer at http://{at}. Is the model server running? Check OPENAI_BASE_URL."

    with running(app):
        app.until_it_says(away)
        until(lambda: app.last_line().startswith("Daybook is ready on SQLite: open "))

        assert app.said().count("No answer") == 1
        assert "7781" not in app.said()
