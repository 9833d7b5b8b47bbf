"""The ASGI app when the server imports this file; the page on screen when Streamlit runs it as a script."""

import gc
import signal

if __name__ != "__main__":
    # until the imports below are done, Ctrl-C ends the process immediately: there is nothing to save yet, and the
    # server would react only after the imports, which take seconds on a busy machine
    ctrl_c = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pages import _streamlit
    from services import deployment
    from services.errors import Misconfigured, StoreUnavailable
    from services.web import connections, run_budgets

    try:
        _streamlit.check()
        _streamlit.forbid_pages_directory()
        _streamlit.drop_needless_messages()
        _streamlit.refuse_unreadable_values()
        _streamlit.note_stale_widgets()
        _streamlit.bound_runs(run_budgets.RunBudgets().begin)
        _streamlit.keep_users_tabs()
        _streamlit.log_by(deployment.log_handler())
        begun = deployment.read_deployment(_streamlit.url())
        connections.limit_connections(is_proxied=begun.settings.trusted_proxies > 0)
    except (Misconfigured, StoreUnavailable) as error:
        raise SystemExit(f"Daybook cannot start: {error.public}") from None
    signal.signal(signal.SIGINT, begun.end_process)
    begun.start()  # the backend starts while the imports below run
    gc.disable()  # garbage collection would take a sixth of the start's CPU time
else:
    ctrl_c = begun = None

import streamlit as st
import uvicorn.config
from starlette.types import ASGIApp

from pages import _session, _streamlit, sign_in
from pages._parts import browser, facts, notices, outage, sidebar, temporary, undo, words
from services import bootstrap

_PAGES = ("", "memory", "usage", "data", "account", "admin")  # the URL paths of the pages


def _without_proxy_headers(app: ASGIApp, trusted_hosts: object) -> ASGIApp:
    """Return *app* without uvicorn's middleware for proxies' headers, so that *app* sees the IP address of the socket.

    The app reads these headers itself (DAYBOOK_TRUSTED_PROXIES).
    """
    return app


@st.fragment(run_every=0.5)
def _wait_for_the_start() -> None:
    """Draw the progress of the server's start; once the server has started, reload the page."""
    health = bootstrap.current_app().health
    if health.is_started:
        # the server reads the session cookie when a tab connects, and this tab connected before the backend was ready
        browser.reload()
        return
    st.info(health.problem or f"Daybook is starting: {health.stage} …")


if begun:
    # replaced here, because uvicorn creates its Config before it imports this file, so setting FORWARDED_ALLOW_IPS
    # would be too late; uvicorn wraps the app in this middleware only after the import
    setattr(uvicorn.config, "ProxyHeadersMiddleware", _without_proxy_headers)  # noqa: B010
    gc.enable()
    signal.signal(signal.SIGINT, ctrl_c)
    process = bootstrap.build(begun, _streamlit.close_tabs, _streamlit.forget_text)
    app = st.App(
        __file__,
        routes=bootstrap.routes(process),
        middleware=bootstrap.middleware(process, _PAGES),
        lifespan=process.lifespan,
        on_script_error=_session.draw_uncaught,
    )
else:
    # not the conversation's title, because the browser stores page titles in its history
    st.set_page_config(page_title="Daybook", page_icon="assets/mark.svg", layout="centered")
    health = bootstrap.current_app().health
    if not health.is_started and not health.is_database_away:
        _wait_for_the_start()
        st.stop()
    outage.draw()
    user = _session.signed_in()
    if user is None:
        pages = [
            st.Page(sign_in.page, title=words.SIGN_IN, url_path=path, default=not path)
            for path in _PAGES
        ]
    else:
        is_alone = bootstrap.current_app().is_alone
        st.logo("assets/logo.svg", size="medium")
        pages = [
            st.Page(_session.CHAT, title="Daybook", default=True),
            st.Page(facts.MEMORY, title=words.MEMORY),
            st.Page(sidebar.USAGE, title=words.USAGE),
            st.Page(sidebar.DATA, title=words.YOUR_DATA),
            *([] if is_alone else [st.Page(sidebar.ACCOUNT, title=words.ACCOUNT)]),
            st.Page(sidebar.ADMIN, title=words.ADMIN),  # the page refuses users who are not admins
        ]
    page = st.navigation(pages, position="hidden")
    # set here, because the browser ignores the titles of st.Page once set_page_config has set a title, as above
    if page.url_path:
        st.set_page_config(page_title=f"{page.title} · Daybook")
    if user:
        _session.note_start()
        if left := temporary.leave_if_elsewhere(page):
            undo.offer_temporary(left)
        _session.go_to_destination(page)
        _session.tell_outcome()
        undo.draw()
    if health.problem:
        st.warning(health.problem)
    notices_place = st.container(key="notices", gap="xsmall")
    card = notices.draw(notices_place, user)
    page.run()
    if user:
        notices.draw(notices_place, user, card)  # the page may have read newer notices
        _session.rerun_if_ended()
