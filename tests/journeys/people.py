"""A user with a browser: actions and checks in users' words. Every wait is for a visible element."""

import itertools
import re
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit
from uuid import UUID
from weakref import WeakKeyDictionary

from playwright.sync_api import (
    Error,
    expect,
)

from services.domain.mails import HAS_INVITATION
from tests.stack.apps import SECONDS, until

PASSWORD = "correct horse battery staple"
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
FOR_EVER = "[[tokens=9000 rate=12]]"  # longer than any journey, for replies that will be stopped
MESSAGE = '.stChatMessage, .db-message, [class*="st-key-past-"] .stMarkdown:not(.stChatMessage *)'
_BETWEEN_LOADS = 1500  # milliseconds: a load of the page takes more CPU time than all else
_numbers = itertools.count()
_idle = WeakKeyDictionary()  # by browser: the contexts of users who left, by their options

expect.set_options(timeout=SECONDS * 1000)


class Tab:
    """One tab of a browser on the app at *url*."""

    def __init__(self, page, url):
        self.page, self.url = page, url

    # --- checks -----------------------------------------------------------------------------------

    @property
    def composer(self):
        return self.page.locator(".st-key-composer textarea")

    @property
    def messages(self):
        return self.page.locator(MESSAGE)

    @property
    def last_reply(self):
        return self.messages.last

    @property
    def stop_button(self):
        return self.page.locator(".st-key-stop button")

    @property
    def title_field(self):
        """The title of a conversation that is being renamed."""
        return self.page.get_by_label("Title", exact=True)

    @property
    def unread(self):
        """The rows of conversations with a reply that the user has not opened yet."""
        return self.rows.and_(self.page.locator(".db-unread"))

    @property
    def temporary_switch(self):
        return self.page.get_by_role("switch", name="Temporary chat")

    @property
    def retry_button(self):
        return self.page.get_by_role("button", name="Retry")

    @property
    def rows(self):
        """The conversations in the sidebar, newest first."""
        return self.page.locator('[data-act="open"]:visible')

    def row(self, text):
        """Return the row with this text in the sidebar."""
        return self.rows.filter(has_text=re.compile(rf"^{re.escape(text)}$"))

    @property
    def filter(self):
        return self.page.locator(".st-key-search input")

    @property
    def found(self):
        """The search dialog."""
        return self.page.get_by_role("dialog", name="Search chats")

    @property
    def sign_in_form(self):
        return self.page.locator('form[action="/session"]')

    @property
    def sidebar(self):
        return self.page.get_by_test_id("stSidebar")

    @property
    def banner(self):
        return self.page.locator(".st-key-truncation-banner")

    @property
    def picker(self):
        """The button that names the current model, and opens the list of models."""
        return self.page.locator(".st-key-model-picker button")

    @property
    def facts(self):
        """The lines below the replies: the model, and the cost and time of the reply."""
        return self.page.locator(".db-acts small")

    @property
    def dialog(self):
        return self.page.get_by_role("dialog")

    @property
    def instructions_sign(self):
        return self.page.locator(".st-key-own-instructions button:visible")

    @property
    def outage(self):
        """The notice that the database is away."""
        return self.page.locator(".st-key-outage [role=status]")

    @property
    def beginning(self):
        """The line at the start of the model's context."""
        return self.page.get_by_role("separator").filter(has_text="Context starts here")

    @property
    def conversation_id(self):
        return UUID(parse_qs(urlsplit(self.page.url).query)["c"][0])

    def texts(self):
        """Return the texts of the messages, oldest first, once all are drawn: Streamlit draws prompts by a script."""
        pending = self.page.locator(".stMain [data-testid='stSkeleton']")
        until(
            lambda: (
                pending.count() == 0
                and all(text.strip() for text in self.messages.all_inner_texts())
            )
        )
        return [" ".join(text.split()) for text in self.messages.all_inner_texts()]

    def sees(self, words):
        expect(self.page.get_by_text(words).first).to_be_visible()

    def is_told(self, words, path):
        """Open the page at *path* until it shows a notice with *words*: a session knows its account for some seconds."""

        def is_told():
            self.visit(path)
            expect(self.page.locator(".st-key-account-menu")).to_be_attached()
            if self.page.locator(".st-key-notices").get_by_text(words).count():
                return True
            self.page.wait_for_timeout(_BETWEEN_LOADS)
            return False

        until(is_told)

    def hears(self, words):
        """Wait until the last message has *words*, whether or not it has ended."""
        expect(self.last_reply).to_contain_text(words)

    def hears_all_of(self, words):
        """Wait until the last message has *words*, and is complete and stored."""
        self.hears(words)
        self.sees_no_reply_coming()

    def sees_no_reply_coming(self):
        expect(self.messages.filter(has_text="▍")).to_have_count(0)
        expect(self.stop_button).to_have_count(0)
        expect(self.page.locator(".stApp")).to_have_attribute(
            "data-test-script-state", "notRunning"
        )

    def is_in(self, title):
        """Wait until the conversation *title* is open, and marked in the list."""
        expect(self.page.locator(".st-key-chat-head h1")).to_have_text(title)
        expect(self.rows.and_(self.page.locator("[aria-current]"))).to_contain_text(title)

    def is_asked_to_sign_in(self):
        expect(self.sign_in_form).to_be_visible()

    def is_signed_out_before_long(self):
        """Wait for the sign-in page: a process that did not end the session itself asks the database only every few seconds."""

        def is_out():
            with suppress(Error):  # the page may be reloading by itself
                self.page.reload()
            expect(self.composer.or_(self.sign_in_form)).to_be_visible()
            if self.sign_in_form.is_visible():
                return True
            self.page.wait_for_timeout(_BETWEEN_LOADS)
            return False

        until(is_out)

    def is_welcome(self):
        """Wait until the user is signed in and the page is drawn."""
        expect(self.composer).to_be_visible()

    # --- actions ----------------------------------------------------------------------------------

    def visit(self, path="/"):
        self.page.goto(self.url + path)

    def enters(self, form, email, password=PASSWORD):
        """Fill in and send the form with the target *form*."""
        fields = self.page.locator(f'form[action="{form}"]')
        fields.locator('[name="email"]').fill(email)
        fields.locator('[name="password"]').fill(password)
        fields.locator('button[type="submit"]').click()

    def enters_invitation(self, code):
        self.page.get_by_role("button", name=HAS_INVITATION).click()
        self.sees("Use your invitation")  # the page before may have a field of the same name
        self.page.get_by_label("Invitation code").fill(code)
        self.page.get_by_role("button", name="Continue", exact=True).click()
        self.sees("invites you.")

    def signs_out(self):
        self.page.locator(".st-key-account-menu button").click()
        self.page.get_by_role("menuitem", name="Sign out").click()
        self.is_asked_to_sign_in()

    def asks(self, prompt):
        """Send *prompt*, and wait until it is drawn."""
        self.composer.fill(prompt)
        self.sends()
        expect(self.messages.filter(has_text=prompt).last).to_be_visible()

    def asks_in_vain(self, prompt):
        """Send *prompt*, and wait for the reason why it was not sent."""
        self.composer.fill(prompt)
        self.sends()
        expect(self.page.get_by_role("alert").last).to_be_visible()
        expect(self.composer).to_have_value(prompt)

    def sends(self):
        """Press Enter (on touch screens with Ctrl, because Enter makes a new line) once the composer accepts it."""
        expect(self.page.get_by_test_id("stChatInputSubmitButton")).to_be_enabled()
        is_touch = self.page.evaluate("daybook.isTouch()")
        self.composer.press("Control+Enter" if is_touch else "Enter")

    def opens(self, title, space=""):
        """Open a conversation from the list; *space* is shown below the title if the list has the chats of all spaces."""
        row = self.row(f"{title} {space}".strip())
        expect(row).to_have_count(1)
        row.click()
        self.is_in(title)

    def begins_a_new_chat(self):
        self.page.locator(".st-key-new-chat button").click()
        expect(self.messages).to_have_count(0)
        self.is_welcome()

    def turns_to_a_temporary_chat(self):
        """Switch to a temporary chat by the keyboard, on a fresh page."""
        self.temporary_switch.focus()
        self.page.keyboard.press("Space")
        self.sees("Not saved and not used for memory.")
        expect(self.temporary_switch).to_be_checked()

    def stored(self):
        """Return all data that the browser stores for the page."""
        return self.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")

    def reloads_what_is_not_kept(self):
        """Reload a page with unsaved text, and confirm the browser's question."""
        asked = []

        def agree(dialog):
            asked.append(dialog.type)
            dialog.accept()

        self.page.once("dialog", agree)
        self.page.reload()
        assert asked == ["beforeunload"]

    def comes_back(self):
        """Return to this tab from another; in a headless browser, every tab believes that it has the focus."""
        self.page.evaluate("dispatchEvent(new Event('blur'))")
        self.page.wait_for_timeout(1200)
        self.page.evaluate("dispatchEvent(new Event('focus'))")

    def unfolds_the_sidebar(self):
        self.page.get_by_test_id("stExpandSidebarButton").click()
        expect(self.page.locator(".st-key-new-chat button")).to_be_in_viewport()

    def jumps_to_the_filter(self):
        self.filter.click()

    def searches(self, words=""):
        """Open the search dialog by the keyboard, as soon as the page handles keys, and type *words*."""

        def is_there():
            if not self.found.is_visible():
                self.page.keyboard.press("Control+k")
            return self.found.is_visible()

        until(is_there)
        self.page.keyboard.type(words)

    def scrolls_up(self, turns):
        """Scroll up by *turns* turns of the mouse wheel; wait until the page has received them all."""
        self.page.evaluate("() => { window.turned = 0; onwheel = (e) => { turned += e.deltaY } }")
        self.page.mouse.move(700, 300)
        for _ in range(turns):
            self.page.mouse.wheel(0, -120)
            self.page.wait_for_timeout(40)
        until(lambda: self.page.evaluate("turned") <= -120 * turns)

    def stops(self):
        self.stop_button.click()
        self.sees_no_reply_coming()

    def retries(self):
        self.retry_button.click()
        expect(self.retry_button).to_have_count(0)

    def renames(self, title, new):
        """Rename a conversation from the list."""
        self.chooses(title, "Rename")
        expect(self.title_field).to_be_focused()
        self.page.keyboard.type(new)  # replaces the selected text
        self.page.keyboard.press("Enter")
        expect(self.title_field).to_have_count(0)

    def picks(self, model):
        """Choose another model for this conversation."""
        self.picker.click()
        self.page.get_by_test_id("stRadioGroup").get_by_text(model, exact=True).click()
        expect(self.picker).to_have_text(re.compile(rf"{model}(?!-)"))
        self.page.keyboard.press("Escape")

    def instructs(self, text):
        """Set the instructions of the open conversation."""
        self.page.locator(".st-key-conversation-menu button").click()
        self.page.get_by_role("menuitem", name="Instructions").click()
        self._saves(text)
        expect(self.instructions_sign).to_be_visible()

    def prefers(self, model, text):
        """Choose a default model and instructions for all conversations without their own."""
        self.opens_preferences()
        self.dialog.locator(".st-key-default-model input").click()
        self.page.get_by_role("option", name=model, exact=True).click()
        self._saves(text)

    def opens_preferences(self):
        self.page.locator(".st-key-account-menu button").click()
        self.page.get_by_role("menuitem", name="Preferences").click()
        expect(self.dialog).to_be_visible()

    def _saves(self, text):
        self.dialog.get_by_role("textbox").fill(text)
        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_have_count(0)

    def makes_a_space(self, name, instructions, before=lambda: None):
        """Create a space, and wait for its fresh page. *before* is called while the dialog is open."""
        chooser = self.page.locator(".st-key-space-chooser button")
        new = self.page.get_by_role("button", name="New space")
        expect(chooser.or_(new)).to_be_visible()
        if new.count():
            new.click()
        else:
            self._picks_in_the_chooser("New space")
        self.dialog.get_by_label("Name").fill(name)
        self.dialog.get_by_label("Space instructions").fill(instructions)
        before()
        self.dialog.get_by_role("button", name="Create").click()
        expect(self.dialog).to_have_count(0)
        self.is_in_space(name)

    def is_in_space(self, name):
        """Wait until the conversations of the space are listed."""
        expect(self.page.locator(".st-key-space-chooser button")).to_contain_text(name)

    def chooses_space(self, name):
        self._picks_in_the_chooser(name)
        self.is_in_space(name)

    def _picks_in_the_chooser(self, name):
        self.page.locator(".st-key-space-chooser button").click()
        self.page.get_by_role("menuitem", name=name, exact=True).click()

    def edits_the_space(self):
        self.page.locator(".st-key-edit-space button").click()
        expect(self.dialog).to_be_visible()

    def opens_the_facts(self):
        """Open the notes of the open conversation."""
        self.page.locator(".st-key-conversation-menu button").click()
        self.page.get_by_role("menuitem", name="Chat notes").click()
        expect(self.dialog).to_contain_text("Used only in")

    def notes_in_the_dialog(self, fact):
        """Add a note in the dialog of a space or of a conversation."""
        self.dialog.get_by_label("Add a note").fill(fact)
        self.dialog.get_by_role("button", name="Add", exact=True).click()
        expect(self.dialog.get_by_text(fact, exact=True)).to_be_visible()

    def moves_to(self, space):
        """Choose *space* in the dialog that the menu of a conversation opened."""
        self.dialog.locator(".st-key-move-to input").click()
        self.page.get_by_role("option", name=space, exact=True).click()
        self.dialog.get_by_role("button", name="Move").click()
        expect(self.dialog).to_have_count(0)

    def turns_to_the_archive(self):
        self.page.get_by_role("button", name="Archived").click()
        expect(self.page.get_by_role("button", name="Back")).to_be_visible()

    def turns_back_to_all(self):
        self.page.get_by_role("button", name="Back").click()
        expect(self.page.get_by_role("button", name="Archived")).to_be_visible()

    def deletes(self, title):
        """Delete a conversation from the list."""
        self.chooses(title, "Delete")
        expect(self.row(title)).to_have_count(0)
        self.sees(f"Deleted “{title}”")

    def undoes(self):
        """Restore the last deleted item."""
        self.page.get_by_role("button", name="Undo").first.click()

    def exports(self, kind):
        """Return the name and the text of the downloaded file."""
        self.page.locator(".st-key-export button").click()
        with self.page.expect_download() as download:
            self.page.get_by_role("menuitem", name=f"As {kind}").click()
        text = download.value.path().read_text(encoding="utf-8")
        return download.value.suggested_filename, text

    def chooses(self, title, action):
        """Choose *action* in the menu of a row in the list."""
        self.page.get_by_role("button", name=f"More: {title}", exact=True).click()
        self.page.get_by_role("menuitem", name=action).click()


class Person(Tab):
    """A user with a browser, its first tab, and an address to sign up with."""

    def __init__(self, browser, url, name, **context):
        self.name = name
        self.email = f"{name}-{next(_numbers)}@daybook.test"
        self.console = []
        self.hosts = set()
        self.sites = {urlsplit(url).netloc}
        options = {"viewport": DESK, "accept_downloads": True} | context
        self._idle = _idle.setdefault(browser, {}).setdefault(repr(sorted(options.items())), [])
        self.context = self._idle.pop() if self._idle else browser.new_context(**options)
        self.context.set_default_timeout(SECONDS * 1000)
        self.context.on("request", self._note_request)
        page = self._new_page()
        stored = self.context.new_cdp_session(page)
        stored.send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
        stored.detach()
        super().__init__(page, url)

    def new_tab(self, url=""):
        """Open another tab of this app, or of another process of it at *url*."""
        self.sites.add(urlsplit(url or self.url).netloc)
        return Tab(self._new_page(), url or self.url)

    def signs_up(self, path="/"):
        self.visit(path)
        self.page.get_by_role("tab", name="Create account").click()
        self.enters("/account", self.email)
        self.is_welcome()

    def registers(self):
        """Sign up without opening a page."""
        form = {"email": self.email, "password": PASSWORD, "next": "/"}
        self.context.request.post(f"{self.url}/account", form=form, max_redirects=0)

    def arrives(self, path="/"):
        """Sign up without the page, for tests in which the sign-up is not the point."""
        self.registers()
        self.visit(path)
        self.is_welcome()

    def signs_in(self, path="/"):
        self.visit(path)
        self.enters("/session", self.email)
        self.is_welcome()

    def leaves(self):
        """Close the tabs, and leave the context to the next user with its options: it has loaded and compiled Streamlit's scripts."""
        self.context.remove_listener("request", self._note_request)
        for page in self.context.pages:
            page.close()
        self.context.clear_cookies()
        self.context.clear_permissions()
        self._idle.append(self.context)

    def complaints(self):
        """Return the page errors and CSP violations of the console, and requests to other sites."""
        said = [line for line in self.console if _COMPLAINT.search(line)]
        return said + [f"a request to {host}" for host in self.hosts - self.sites]

    def picture(self, folder):
        """Save screenshots and the console's lines in *folder*; return the paths."""
        paths = []
        for number, page in enumerate(self.context.pages):
            path = folder / f"{self.name}-{number}.png"
            try:
                page.screenshot(path=path, timeout=5000)
            except Error as error:
                paths.append(f"no screenshot: {error.message}")
            else:
                paths.append(f"{path} of {page.url}")
        console = folder / f"{self.name}-console.txt"
        console.write_text("\n".join(self.console))
        return "\n".join([*paths, str(console)])

    def _new_page(self):
        page = self.context.new_page()
        page.on("console", self._note_console)
        page.on("pageerror", self._note_error)
        page.on("websocket", self._note_websocket)
        return page

    def _note_console(self, message):
        self.console.append(f"{message.type}: {message.text}")

    def _note_error(self, error):
        self.console.append(f"pageerror: {error}")

    def _note_request(self, request):
        self._note_host(request.url)

    def _note_websocket(self, socket):
        self._note_host(socket.url)

    def _note_host(self, url):
        if url.startswith(("http", "ws")):
            self.hosts.add(urlsplit(url).netloc)


_COMPLAINT = re.compile(r"Content.Security.Policy|pageerror|violates", re.IGNORECASE)
