"""Supabase Auth's link that confirms an address: the script of the page alone, and the page that it leads to."""

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS

CODE = "0b0e4a8e-7c5c-4a8a-9d3f-2f6b0f6d5a11"
TOKENS = "access_token=eyJ.a.b&expires_in=3600&refresh_token=abc&token_type=bearer&type=signup"
EXPIRED = "error=access_denied&error_code=otp_expired&error_description=Email+link+is+invalid"


@pytest.fixture
def page(browser):
    """A page at any address that has the script alone."""
    script = (_ASSETS / "page" / "link.js").read_text("utf-8")
    body = f'<script type="module">{{{script}}}</script>'
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=body, content_type="text/html"))
        yield page


@pytest.mark.parametrize(
    ("arrival", "left"),
    [
        (f"?c=1#{TOKENS}", "?c=1&reason=link-followed"),
        (f"?code={CODE}", "?reason=link-followed"),
        (f"#{EXPIRED}", "?reason=link-expired"),
        (f"?{EXPIRED}#{EXPIRED}", "?reason=link-expired"),
        ("?c=1#error=server_error&error_code=unexpected_failure", "?c=1"),
    ],
)
def test_what_supabase_adds_to_the_address_is_removed(page, arrival, left):
    page.goto(f"https://app.test/{arrival}")

    page.wait_for_url(f"https://app.test/{left}", wait_until="load")

    assert page.evaluate("history.length") == 2  # and the blank page


@pytest.mark.parametrize("arrival", ["?code=sign_in&step=a-1", "?c=1#a-heading", ""])
def test_other_addresses_stay(page, arrival):
    page.goto(f"https://app.test/{arrival}")

    assert page.url == f"https://app.test/{arrival}"


def test_expired_link_leads_to_the_form_for_an_account(app, person):
    maya = person()

    maya.visit(f"/#{EXPIRED}")

    expect(maya.page.get_by_text("This link has expired or was used before.")).to_be_visible()
    assert maya.page.url == f"{app.url}/?reason=link-expired"
    maya.page.get_by_role("button", name="Create account").filter(visible=True).click()
    expect(maya.page.locator('form[action="/account"]')).to_be_visible()
    expect(maya.sign_in_form).to_be_hidden()
