"""One file, two lives: imported by the server it is the ASGI app; run by Streamlit it is the page."""

import streamlit as st
from streamlit import config

from services import bootstrap
from services.errors import Misconfigured

_USUAL_PORT = 8501


def _url() -> str:
    """Where people open the app. Raise Misconfigured where Streamlit, finding the port taken, moved on."""
    port = config.get_option("server.port")
    if port != _USUAL_PORT and not config.is_manually_set("server.port"):
        raise Misconfigured(
            f"Port {_USUAL_PORT} is taken: stop what uses it, or add --server.port with another."
        )
    return f"http://{config.get_option('server.address') or 'localhost'}:{port}"


@st.fragment(run_every=0.5)
def _wait_for_the_start() -> None:
    """Say how far the start is, and move on by itself."""
    life = bootstrap.life()
    if life.is_open:
        st.rerun()
    st.info(life.trouble or f"Daybook is starting: {life.stage} …")


if __name__ != "__main__":
    try:
        life, stack = bootstrap.begin(_url())
    except Misconfigured as error:
        raise SystemExit(f"Daybook cannot start: {error.public}") from None
    app = st.App(
        __file__,
        routes=[*life.routes(), *bootstrap.routes()],
        middleware=bootstrap.middleware(),
        lifespan=life.lifespan(stack, bootstrap.stop_turns),
    )
else:
    if not bootstrap.life().is_open:
        _wait_for_the_start()
        st.stop()
    if bootstrap.life().trouble:
        st.warning(bootstrap.life().trouble)
    st.title("Daybook")
