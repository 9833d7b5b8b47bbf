"""The key tree: every key has one purpose and one place, and none is ever shown."""

import base64
import json
import traceback
from pathlib import Path
from uuid import UUID

import pytest

from services.crypto import Place, RootKeys, UserKey, Vault, new_key
from services.crypto.vault import subkey, token_version
from services.errors import Misconfigured, Tampered
from tests.unit.test_vault import (
    ANA,
    GARDEN,
    KITCHEN,
    full_traceback,
    place_of,
    refuses,
    use_salt,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "keys.json").read_text())

ROOT_1, ROOT_2 = bytes(range(64, 96)), bytes(range(96, 128))
USER_KEY, CONVERSATION_KEY = bytes(range(128, 160)), bytes(range(160, 192))
COOKIE = bytes(range(192, 224))
SECRET, OTHER_SECRET = bytes(range(160, 192)), bytes(range(32, 64))
MESSAGE = Place(
    table="messages", column="body", row_id=KITCHEN, user_id=ANA, conversation_id=GARDEN, seq=1
)
TOKENS = Place(table="app_sessions", column="tokens", row_id=GARDEN, user_id=ANA)


def written(key):
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def ring(current, **keys):
    versions = {name.removeprefix("v"): written(key) for name, key in keys.items()}
    return json.dumps({"current": current, "keys": versions})


BEFORE = RootKeys({1: ROOT_1}, current=1)
DURING = RootKeys({1: ROOT_1, 2: ROOT_2}, current=2)
AFTER = RootKeys({2: ROOT_2}, current=2)


# --- the frozen vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["rings"], ids=lambda vector: vector["name"])
def test_frozen_ring_derives_the_same_keys(vector, monkeypatch):
    keys = RootKeys.parse(vector["ring"])
    user_key, session = vector["user_key"], vector["session"]
    owner, key = UUID(user_key["user_id"]), bytes.fromhex(user_key["key"])
    place = owner, user_key["version"]
    wraps = keys.account_keys(bytes.fromhex(user_key["account_secret"]))

    assert (keys.current, list(keys.versions())) == (vector["current"], vector["versions"])
    assert keys.proof_key().hex() == vector["proof_key"]
    assert keys.bucket(vector["bucket"]["text"]) == vector["bucket"]["name"]
    assert keys.device_tag(vector["bucket"]["text"]) == vector["device_tag"]

    assert wraps.unwrap(user_key["token"], *place) == key
    use_salt(monkeypatch, user_key["salt"])
    assert wraps.wrap(key, *place) == user_key["token"]

    vault = keys.session_vault(bytes.fromhex(session["cookie_secret"]))
    assert vault.open(session["token"], place_of(session["place"])) == session["text"]
    use_salt(monkeypatch, session["salt"])
    assert vault.seal(session["text"], place_of(session["place"])) == session["token"]

    step = vector["step"]
    steps, step_id = keys.step_keys(bytes.fromhex(step["secret"])), UUID(step["id"])
    assert (steps.row_key(step_id), steps.kind_tag(step["kind"])) == (
        step["row_key"],
        step["kind_tag"],
    )
    assert steps.open(step["token"], step_id) == step["text"]
    use_salt(monkeypatch, step["salt"])
    assert steps.seal(step["text"], step_id) == step["token"]
    code = vector["code"]
    assert keys.code_tag(step_id, code["digits"]) == code["tag"]


def user_key_of(vector):
    key, owner = bytes.fromhex(vector["user_key"]), UUID(vector["user_id"])
    return UserKey(key, owner, vector["user_key_version"])


def test_frozen_conversation_key_unwraps_and_is_wrapped_again(monkeypatch):
    vector = VECTORS["conversation_key"]
    user_key = user_key_of(vector)
    place = UUID(vector["conversation_id"]), vector["key_version"]

    assert user_key.unwrap(vector["token"], *place).hex() == vector["key"]
    use_salt(monkeypatch, vector["salt"])
    assert user_key.wrap(bytes.fromhex(vector["key"]), *place) == vector["token"]


def test_frozen_purpose_opens_and_is_sealed_again(monkeypatch):
    vector = VECTORS["purpose"]
    vault = user_key_of(vector).vault(vector["purpose"])

    assert vault.open(vector["token"], place_of(vector["place"])) == vector["text"]
    use_salt(monkeypatch, vector["salt"])
    assert vault.seal(vector["text"], place_of(vector["place"])) == vector["token"]


@pytest.mark.parametrize("vector", VECTORS["user_keys_refused"], ids=lambda vector: vector["name"])
def test_frozen_failures_of_user_keys_stay_failures(vector):
    wraps = RootKeys.parse(vector["ring"]).account_keys(bytes.fromhex(vector["account_secret"]))

    refuses(wraps.unwrap, vector["token"], UUID(vector["user_id"]), vector["version"])


@pytest.mark.parametrize("vector", VECTORS["steps_refused"], ids=lambda vector: vector["name"])
def test_frozen_failures_of_steps_stay_failures(vector):
    keys = RootKeys.parse(vector["ring"]).step_keys(bytes.fromhex(vector["secret"]))

    refuses(keys.open, vector["token"], UUID(vector["id"]))


REFUSED = VECTORS["conversation_keys_refused"]


@pytest.mark.parametrize("vector", REFUSED, ids=lambda vector: vector["name"])
def test_frozen_failures_of_conversation_keys_stay_failures(vector):
    place = UUID(vector["conversation_id"]), vector["key_version"]

    refuses(user_key_of(vector).unwrap, vector["token"], *place)


# --- reading the ring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        written(ROOT_1),
        written(ROOT_1) + "=",
        f"  {written(ROOT_1)}\n",
        ring(1, v1=ROOT_1),
        "\n" + ring(1, v1=ROOT_1),
    ],
)
def test_one_key_is_a_ring_of_version_1(text):
    keys = RootKeys.parse(text)

    assert (keys.current, keys.versions()) == (1, (1,))
    assert keys.proof_key() == BEFORE.proof_key()


def test_ring_names_its_current_key():
    keys = RootKeys.parse(ring(2, v1=ROOT_1, v2=ROOT_2, v10=USER_KEY))

    assert (keys.current, keys.versions()) == (2, (1, 2, 10))
    assert keys.proof_key() == keys.proof_key(2) == DURING.proof_key()
    assert keys.proof_key(1) == BEFORE.proof_key()


def test_damaged_text_needs_no_root_key():
    DURING.refuse_missing([0, 1, 2])

    with pytest.raises(Misconfigured, match="Root key 3 is missing"):
        DURING.refuse_missing([0, 3])


INVALID = {
    "is missing": ["", " \n"],
    "is not 32 random bytes in base64url": [
        *("hunter2hunter2", "ключ", '{"current": 1, "keys": {"1": "hunter2"}}'),
        *(written(ROOT_1[:31]), written(ROOT_1 + b"x"), written(ROOT_1)[:-1]),
        base64.b64encode(bytes(range(224, 256))).decode(),
        *(written(ROOT_1)[:-1] + "*", written(ROOT_1)[:20] + " " + written(ROOT_1)[20:]),
        *(written(bytes(32)), written(bytes(range(15)) + bytes(17))),
        *(written(b"daybookdaybookdaybookdaybookdayb"), ring(2, v1=bytes(32), v2=ROOT_1)),
    ],
    'is not JSON like {"current": 2, "keys": {"1": "…", "2": "…"}}': [
        *("{", "{}", '{"current": 1}', '{"current": 1, "keys": []}', '{"current": [], "keys": {}}'),
        *('{"current": 1, "keys": {"1": 7}}', '{"current": 1, "keys": {"one": "hunter2"}}'),
        '{"current": 1, "keys": {"%s": "hunter2"}}' % ("9" * 5000),
    ],
    'has no key of the version in "current"': [
        *('{"current": 1, "keys": {}}', ring(3, v1=ROOT_1, v2=ROOT_2))
    ],
    "has a version that is not a number from 1 to 999999999": [
        *(ring(0, v0=ROOT_1), ring(1, v1=ROOT_1, v1000000000=ROOT_2))
    ],
    "has the same key under two versions": [ring(2, v1=ROOT_1, v2=ROOT_1)],
}


@pytest.mark.parametrize(
    ("text", "problem"), [(text, problem) for problem, texts in INVALID.items() for text in texts]
)
def test_invalid_ring_is_refused_in_one_sentence(text, problem):
    with pytest.raises(Misconfigured) as refusal:
        RootKeys.parse(text, "the file root.key")

    said = refusal.value.public
    assert said.startswith(f"The root key in the file root.key {problem}")
    assert said.endswith(" there.")
    assert refusal.value.__context__ is None, "an error of json or base64 may quote its input"
    shown = "".join(traceback.format_exception(refusal.value))
    for part in ("hunter2", "daybookdaybook", "ключ", written(ROOT_1)[:12]):
        assert part not in shown


def test_key_needs_sixteen_distinct_bytes():
    RootKeys({1: bytes(range(16)) * 2}, current=1)
    with pytest.raises(ValueError, match="random"):
        RootKeys({1: (bytes(range(15)) * 3)[:32]}, current=1)


def test_new_keys_are_valid_root_keys_and_differ():
    keys = {new_key() for _ in range(200)}

    assert len(keys) == 200
    for key in keys:
        assert RootKeys.parse(written(key)).versions() == (1,)


# --- the tree -------------------------------------------------------------------------------------------


def test_all_keys_of_the_tree_differ():
    session_salt, step_salt = subkey(ROOT_1, "app-session"), subkey(ROOT_1, "steps")
    keys = [
        ROOT_1,
        subkey(ROOT_1, "user keys"),
        BEFORE.proof_key(),
        subkey(ROOT_1, "throttle"),
        subkey(ROOT_1, "device cookie"),
        session_salt,
        subkey(COOKIE, "session", session_salt),
        subkey(COOKIE, "session"),
        step_salt,
        subkey(COOKIE, "step", step_salt),
        subkey(COOKIE, "step id"),
        subkey(COOKIE, "step kind"),
        subkey(ROOT_1, "code"),
        subkey(ROOT_1, "look-up"),
        USER_KEY,
        subkey(USER_KEY, "conversation keys"),
        subkey(USER_KEY, "purpose profile"),
        subkey(USER_KEY, "purpose memories"),
        subkey(USER_KEY, "row"),
        DURING.proof_key(),
    ]

    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


def test_proof_key_opens_nothing():
    token = BEFORE.account_keys(SECRET).wrap(USER_KEY, ANA, 1)
    refuses(RootKeys({1: BEFORE.proof_key()}, current=1).account_keys(SECRET).unwrap, token, ANA, 1)
    refuses(Vault(BEFORE.proof_key()).unwrap, token, MESSAGE)


def test_user_key_needs_the_account_secret_and_the_root_key():
    token = BEFORE.account_keys(SECRET).wrap(USER_KEY, ANA, 1)

    assert BEFORE.account_keys(SECRET).unwrap(token, ANA, 1) == USER_KEY
    refuses(BEFORE.account_keys(OTHER_SECRET).unwrap, token, ANA, 1)
    refuses(RootKeys({1: ROOT_2}, current=1).account_keys(SECRET).unwrap, token, ANA, 1)


def test_document_of_one_purpose_opens_for_no_other():
    user_key = UserKey(USER_KEY, ANA)
    token = user_key.vault("profile").seal("Ana", MESSAGE)

    later = UserKey(USER_KEY, ANA, 2).vault("profile")
    for vault in (user_key.vault("memories"), later, Vault(USER_KEY)):
        refuses(vault.open, token, MESSAGE)


def test_session_needs_its_cookie_and_the_root_key():
    token = BEFORE.session_vault(COOKIE).seal("refresh", TOKENS)

    assert BEFORE.session_vault(COOKIE).open(token, TOKENS) == "refresh"
    refuses(BEFORE.session_vault(CONVERSATION_KEY).open, token, TOKENS)
    refuses(RootKeys({1: ROOT_2}, current=1).session_vault(COOKIE).open, token, TOKENS)


def test_tag_of_a_code_is_bound_to_its_step_and_the_root_keys():
    tag = BEFORE.code_tag(GARDEN, "01234567")

    assert BEFORE.is_code(GARDEN, "01234567", tag)
    assert DURING.is_code(GARDEN, "01234567", tag)
    for keys, step_id, digits, other in (
        (AFTER, GARDEN, "01234567", tag),
        (BEFORE, KITCHEN, "01234567", tag),
        (BEFORE, GARDEN, "01234568", tag),
        (BEFORE, GARDEN, "01234567", ""),
    ):
        assert not keys.is_code(step_id, digits, other)


def test_row_of_a_step_is_named_by_its_browser_and_id_under_any_root_key():
    steps = BEFORE.step_keys(COOKIE)
    others = BEFORE.step_keys(SECRET)

    names = {steps.row_key(GARDEN), steps.row_key(KITCHEN), others.row_key(GARDEN)}
    kinds = {steps.kind_tag("reset"), steps.kind_tag("code"), others.kind_tag("reset")}

    assert len(names | kinds | {steps.kind_tag(str(GARDEN))}) == 7
    during, token = DURING.step_keys(COOKIE), steps.seal("a code", GARDEN)
    assert (during.row_key(GARDEN), during.kind_tag("reset")) == (
        steps.row_key(GARDEN),
        steps.kind_tag("reset"),
    )
    assert during.open(token, GARDEN) == "a code"


def test_throttle_bucket_hides_the_address():
    bucket = BEFORE.bucket("ana@example.com")

    assert bucket == BEFORE.bucket("ana@example.com")
    assert bucket not in (BEFORE.bucket("ben@example.com"), AFTER.bucket("ana@example.com"))
    assert len(bucket) == 64
    assert "ana" not in bucket


# --- rotation -------------------------------------------------------------------------------------------


def test_new_root_key_rewraps_only_user_keys():
    user_row = BEFORE.account_keys(SECRET).wrap(USER_KEY, ANA, 1)
    conversation_row = UserKey(USER_KEY, ANA, 1).wrap(CONVERSATION_KEY, GARDEN, 1)
    message_row = Vault(CONVERSATION_KEY).seal("hello", MESSAGE)

    assert DURING.needs_rewrap(user_row)
    rewrapped = DURING.account_keys(SECRET).wrap(
        DURING.account_keys(SECRET).unwrap(user_row, ANA, 1), ANA, 1
    )

    assert not DURING.needs_rewrap(rewrapped)
    assert (token_version(user_row), token_version(rewrapped)) == (1, 2)
    user_key = UserKey(AFTER.account_keys(SECRET).unwrap(rewrapped, ANA, 1), ANA, 1)
    conversation_key = user_key.unwrap(conversation_row, GARDEN, 1)
    assert Vault(conversation_key).open(message_row, MESSAGE) == "hello"
    refuses(AFTER.account_keys(SECRET).unwrap, user_row, ANA, 1)


def test_session_survives_a_new_root_key():
    token = BEFORE.session_vault(COOKIE).seal("refresh", TOKENS)
    vault = DURING.session_vault(COOKIE)

    assert vault.open(token, TOKENS) == "refresh"
    resealed = vault.seal("refreshed", TOKENS)
    assert token_version(resealed) == 2
    assert AFTER.session_vault(COOKIE).open(resealed, TOKENS) == "refreshed"
    refuses(AFTER.session_vault(COOKIE).open, token, TOKENS)


@pytest.mark.parametrize("token", ["", "p1", "p1.", "p1.0.A", "p1.01.A", "p1.9999999999.A", "h1.A"])
def test_malformed_token_has_no_version_and_is_refused(token):
    assert token_version(token) is None
    assert DURING.needs_rewrap(token)
    refuses(DURING.account_keys(SECRET).unwrap, token, ANA, 1)


# --- what shows -----------------------------------------------------------------------------------------


def test_no_repr_shows_a_key():
    for shown, expected in (
        (Vault(USER_KEY, 3), "Vault(version=3)"),
        (DURING, "RootKeys(versions=(1, 2), current=2)"),
        (DURING.session_vault(COOKIE), "VaultRing(versions=(1, 2), current=2)"),
        (UserKey(USER_KEY, ANA, 3), "UserKey(version=3)"),
    ):
        assert repr(shown) == str(shown) == expected


def test_traceback_of_a_failure_holds_no_key():
    with pytest.raises(Tampered) as failure:
        AFTER.account_keys(SECRET).unwrap(
            BEFORE.account_keys(SECRET).wrap(USER_KEY, ANA, 1), ANA, 1
        )

    shown = full_traceback(failure.value)
    assert failure.value.__context__ is None
    for secret in (ROOT_1, ROOT_2, USER_KEY, SECRET, subkey(ROOT_1, "user keys")):
        assert repr(secret)[2:-1] not in shown
