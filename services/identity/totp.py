"""Time-based one-time codes of authenticator apps (TOTP, RFC 6238): SHA-1, 6 digits, steps of 30 seconds.

pyotp and segno are imported at first use, so that the app starts without loading them.
"""

import hmac
import secrets
from base64 import b32encode
from datetime import datetime

DIGITS = 6
_SECRET_BYTES = 20  # 160 bits, the length of SHA-1's output (RFC 4226, section 4)
_STEP_SECONDS = 30
_CLOCK_STEPS = 1  # time steps by which a phone's clock may be fast or slow


def new_secret() -> bytes:
    """Return a new random secret of 20 octets."""
    return secrets.token_bytes(_SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """Return *secret* in base32, the form that authenticator apps accept."""
    return b32encode(secret).decode()


def matching_step(secret: bytes, digits: str, now: datetime, newer_than: int) -> int | None:
    """Return the time step whose code is *digits*: the step at *now*, or the step before or after it; None if none matches.

    Only steps above *newer_than*, the newest used step, match, so that each code is accepted once. If two steps have
    the same code, return the later step.
    """
    from pyotp.totp import TOTP

    if not (len(digits) == DIGITS and digits.isascii() and digits.isdecimal()):
        return None
    codes = TOTP(secret_text(secret), digits=DIGITS, interval=_STEP_SECONDS)
    current = int(now.timestamp()) // _STEP_SECONDS
    found = [
        step
        for step in range(current - _CLOCK_STEPS, current + _CLOCK_STEPS + 1)
        if hmac.compare_digest(codes.generate_otp(step), digits) and step > newer_than
    ]
    return max(found, default=None)


def provisioning_uri(secret: bytes, address: str, issuer: str) -> str:
    """Return the `otpauth:` URI that gives *secret* to an app, which shows *issuer* and *address* next to the codes."""
    from pyotp.totp import TOTP

    codes = TOTP(secret_text(secret), digits=DIGITS, interval=_STEP_SECONDS)
    return codes.provisioning_uri(name=address, issuer_name=issuer)


def qr_svg(uri: str) -> str:
    """Return *uri* as a QR code: an SVG element for HTML, without size, style or script, dark on light."""
    import segno

    # the code has its own light background, because apps cannot read light modules on a dark page
    code = segno.make_qr(uri, error="m")
    return code.svg_inline(dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None)
