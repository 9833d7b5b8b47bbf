"""The texts of emails, in plain text and in HTML. No email has a link: an email that asks for a click is not from Daybook."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from services.domain.accounts import FEW_RECOVERY_CODES
from services.domain.mails import (
    HAS_INVITATION,
    UNDO_CHANGE,
    Code,
    CodePurpose,
    Invited,
    Mail,
    NoCode,
    NoCodeReason,
    Notice,
    NoticeKind,
)

# for each purpose of a code: the subject of the email, and a sentence about what the code does
_CODES: Mapping[CodePurpose, tuple[str, str]] = {
    CodePurpose.CONFIRM_ADDRESS: (
        "Confirm your email address",
        "Use this code to confirm your email address for Daybook.",
    ),
    CodePurpose.SIGN_IN: ("Your code to sign in", "Use this code to sign in to Daybook."),
    CodePurpose.RESET_PASSWORD: (
        "Reset your password",
        "Use this code to choose a new password for Daybook.",
    ),
    CodePurpose.NEW_ADDRESS: (
        "Confirm your new email address",
        "Use this code to confirm your new email address for Daybook.",
    ),
    CodePurpose.RESTORE_ADDRESS: (
        "Undo a change of email address",
        "Use this code to make this the email address of your Daybook account again.",
    ),
    CodePurpose.PROVE: (
        "Confirm a change to your account",
        "Use this code to change your Daybook account.",
    ),
}
# for each reason why an email has no code: the subject of the email, what happened, and what to do
_UNDO_CHANGE = f"“{UNDO_CHANGE}” (it may be behind “Forgot your password?”)"
_NO_CODES: Mapping[NoCodeReason, tuple[str, str, str]] = {
    NoCodeReason.TAKEN: (
        "You already have an account",
        "A code was requested to use this address for a Daybook account.",
        "There is an account with this address already, so this email has no code. Sign in instead. "
        "If the address of your account was changed from this one in the last three days, the sign-in page can undo it: "
        f"{_UNDO_CHANGE}.",
    ),
    NoCodeReason.UNCONFIRMED: (
        "Your email address is not confirmed",
        "A code was requested for the Daybook account with this address.",
        "The address was never confirmed, so this email has no code. Sign in without a code, "
        "and confirm the address on the page Account. If you did not create the account, contact your admin.",
    ),
}
_NOTICES: Mapping[NoticeKind, tuple[str, str]] = {
    NoticeKind.NEW_DEVICE: (
        "New sign-in",
        "New sign-in to your Daybook account from a new browser.",
    ),
    NoticeKind.FACTOR_ADDED: (
        "Authenticator app set up",
        "An authenticator app was set up for your Daybook account: signing in now asks for its code.",
    ),
    NoticeKind.FACTOR_REMOVED: (
        "Authenticator app turned off",
        "The authenticator app of your Daybook account was turned off: signing in no longer asks for its code.",
    ),
    NoticeKind.FACTOR_REPLACED: (
        "Authenticator app replaced",
        "The authenticator app of your Daybook account was replaced, with new recovery codes. "
        "The old app and the old recovery codes no longer work.",
    ),
    NoticeKind.PASSKEY_FACTOR_ADDED: (
        "Passkey turned on as second step",
        "Signing in to your Daybook account now asks for a passkey as your second step.",
    ),
    NoticeKind.PASSKEY_FACTOR_REMOVED: (
        "Passkey turned off as second step",
        "Signing in to your Daybook account no longer asks for a passkey as your second step.",
    ),
    NoticeKind.WRONG_FACTORS: (
        "Wrong codes at sign-in",
        "Somebody got past the first step of signing in, but not your two-step verification, several times.",
    ),
    NoticeKind.RECOVERY_CODES_RENEWED: (
        "New recovery codes",
        "New recovery codes were made for your Daybook account. The old ones no longer work.",
    ),
    NoticeKind.RECOVERY_CODE_USED: (
        "Recovery code used",
        "A recovery code of your Daybook account was used.",
    ),
    NoticeKind.FEW_RECOVERY_CODES: (
        "Few recovery codes left",
        f"Your Daybook account has {FEW_RECOVERY_CODES} recovery codes left. You can make new ones on the page Account.",
    ),
    NoticeKind.PASSKEY_ADDED: (
        "Passkey added",
        "A passkey was added to your Daybook account. It can be used to sign in.",
    ),
    NoticeKind.PASSKEY_REMOVED: (
        "Passkey removed",
        "A passkey was removed from your Daybook account. It no longer works.",
    ),
    NoticeKind.PASSKEY_COPIED: (
        "Passkey refused",
        "A passkey of your Daybook account was refused because a copy of it may be in use. "
        "Remove it on the page Account, and add a new one.",
    ),
    NoticeKind.PASSWORD_CHANGED: (
        "Password changed",
        "The password of your Daybook account was changed.",
    ),
    NoticeKind.PASSWORD_RESET: (
        "Password reset",
        "The password of your Daybook account was reset with a code sent to your email address.",
    ),
    NoticeKind.ADDRESS_CHANGED: (
        "Email address changed",
        "The email address of your Daybook account was changed.",
    ),
    NoticeKind.FORMER_ADDRESS: (
        "Email address replaced",
        "The email address of your Daybook account was changed. This address no longer signs you in.",
    ),
    NoticeKind.IDENTITY_ADDED: (
        "Sign-in added",
        "A sign-in at a provider was added to your Daybook account: it opens your account now.",
    ),
    NoticeKind.IDENTITY_REMOVED: (
        "Sign-in removed",
        "A sign-in at a provider was removed from your Daybook account: it no longer opens your account.",
    ),
    NoticeKind.ACCOUNT_DELETED: (
        "Account deleted",
        "Your Daybook account was deleted, with all chats, memories and settings.",
    ),
    NoticeKind.OPERATOR: (
        "Account changed by an admin",
        "An admin changed how you sign in to your Daybook account.",
    ),
}
_IF_NOT_YOU = (
    "Not you? Sign in and open the page Account: change your password, if you have one, and check your sign-in methods and "
    "devices. If you cannot sign in, contact your admin."
)
_TAKE_BACK = (
    f"Not you? You can undo this for three days: on the sign-in page of Daybook, choose {_UNDO_CHANGE} and enter this "
    "address. All devices are signed out, and you may have to choose a new password."
)
_ADVICE = {
    NoticeKind.FORMER_ADDRESS: _TAKE_BACK,
    NoticeKind.ACCOUNT_DELETED: "Not you? Contact your admin. What was deleted cannot be restored.",
}
_STYLE = "font-family:sans-serif;font-size:16px;line-height:1.5;color:#222;max-width:34em"
_CODE_STYLE = "font-size:28px;letter-spacing:4px;font-weight:bold;word-break:break-all"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailText:
    """The text of one email: a subject, paragraphs, and in some emails a code after the first paragraph."""

    subject: str = field(repr=False)
    paragraphs: tuple[str, ...] = field(repr=False)
    code: str | None = field(repr=False)

    def plain(self) -> str:
        first, *others = self.paragraphs
        return "\n\n".join([first, *([self.code] if self.code else []), *others]) + "\n"

    def html(self) -> str:
        first, *others = (f"<p>{escape(text)}</p>" for text in self.paragraphs)
        code = [f'<p style="{_CODE_STYLE}">{escape(self.code)}</p>'] if self.code else []
        # without the second tag, phones would show the code as a telephone number
        meta = '<meta charset="utf-8"><meta name="format-detection" content="telephone=no">'
        body = "\n".join([first, *code, *others])
        return (
            f'<!doctype html>\n<html lang="en"><head>{meta}<title>{escape(self.subject)}</title></head>\n'
            f'<body style="{_STYLE}">\n{body}\n</body></html>\n'
        )


def text_of(mail: Mail) -> MailText:
    match mail.content:
        case Code(purpose, digits):
            subject, deed = _CODES[purpose]
            paragraphs = (
                deed,
                f"Enter it on the page that asked for it. Valid once, until {_minute(mail.expires_at)}.",
                f"Requested on {_origin(mail)}.",
                "Nobody from Daybook will ever ask you for this code. Do not share it.",
                "If you did not request it, ignore this email: nothing changes without the code.",
            )
            return MailText(subject=subject, paragraphs=paragraphs, code=digits)
        case NoCode(reason):
            subject, deed, advice = _NO_CODES[reason]
            paragraphs = (
                deed,
                advice,
                f"Requested on {_origin(mail)}.",
                "If you did not request it, ignore this email.",
            )
            return MailText(subject=subject, paragraphs=paragraphs, code=None)
        case Notice(kind):
            subject, news = _NOTICES[kind]
            advice = _ADVICE.get(kind, _IF_NOT_YOU)
            paragraphs = (news, f"When: {_origin(mail)}.", advice)
            return MailText(subject=subject, paragraphs=paragraphs, code=None)
        case Invited(code=code, host=host, by=by):
            paragraphs = (
                f"{by} invites you to Daybook at {host}. Your invitation code:",
                f"Open {host} in your browser, choose “{HAS_INVITATION}”, and enter the code. "
                "It is for this email address, and works once, within 7 days.",
                f"If you do not know {by}, ignore this email.",
            )
            return MailText(subject="You are invited to Daybook", paragraphs=paragraphs, code=code)


def _origin(mail: Mail) -> str:
    """Return a phrase that says when, and in which browser, the action took place that caused *mail*."""
    browser = f" in {mail.browser}" if mail.browser else ""
    return f"{_minute(mail.at)}{browser}"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d at %H:%M} UTC"
