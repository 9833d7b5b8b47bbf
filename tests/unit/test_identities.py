"""What the answer of a provider leads to: a sign-in, a proof, an account, an address, or a refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.accounts import ProofScope
from services.domain.single_sign_on import (
    AddressNeeded,
    AddressUnconfirmed,
    Identity,
    IdentityTaken,
    LinkedIdentity,
    NoAccount,
    OtherSignInNeeded,
    ProviderAnswer,
    RequestKind,
    TooManyIdentities,
    new_request,
)
from services.errors import BadInput, NotFound, ProofNeeded, Refused
from services.provider_settings import ProviderSettings
from services.store.identities import (
    SIGN_ON,
    AsksAddress,
    BeginsAccount,
    FoundAccount,
    ProvesAccount,
    SignOn,
    SignOnPurpose,
    SignsIn,
    check_link,
    check_way_in,
    linked,
    next_of,
    proof_of,
    renamed,
    unlinked,
    used,
    with_address,
)

MAYA, NOOR = UUID(int=1), UUID(int=2)
ADDRESS, OTHER = "maya@corp.example", "maya@other.example"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def an_answer(**changes):
    fields = {
        "provider": "corp",
        "identity": Identity("https://sso.corp.example", "7f3c"),
        "address": ADDRESS,
        "is_verified": True,
        "is_member": True,
        "is_of_domains": True,
        "signed_in_at": None,
        "has_factor": False,
        **changes,
    }
    return ProviderAnswer(**fields)


def an_entry(**changes):
    fields = {"issuer": "https://sso.corp.example", "client_id": "daybook", "client_secret": "x"}
    return ProviderSettings(**fields, **changes)


def providers(other=None, **corp):
    return {"corp": an_entry(**corp), "other": an_entry(**other or {})}


def an_account(user_id=MAYA, address=ADDRESS, *, is_confirmed=True):
    return FoundAccount(user_id, address, is_confirmed)


OPEN = providers(may_sign_up=True)


def after(answer=None, linked=None, at_address=None, entries=OPEN, *, has_mail=True):
    return next_of(answer or an_answer(), linked, at_address, entries, has_mail=has_mail)


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(),
        an_answer(address="new@corp.example"),
        an_answer(address=None, is_verified=False, is_of_domains=False),
        an_answer(is_verified=False, is_of_domains=False),
    ],
)
@pytest.mark.parametrize("at_address", [None, an_account(NOOR), an_account()])
def test_linked_user_signs_in_whatever_the_address_is_now(answer, at_address):
    """The changed address of a known user opens no other account."""
    closed = providers()

    assert after(answer, an_account(), at_address, closed, has_mail=False) == SignsIn()


def test_confirmed_account_of_the_address_is_proved_first():
    assert after(at_address=an_account(NOOR)) == ProvesAccount()


def test_unconfirmed_account_of_the_address_is_not_linked():
    with pytest.raises(AddressUnconfirmed) as caught:
        after(at_address=an_account(NOOR, is_confirmed=False))

    assert "never confirmed" in caught.value.public


@pytest.mark.parametrize("at_address", [None, an_account(NOOR), an_account(is_confirmed=False)])
@pytest.mark.parametrize(
    "answer",
    [an_answer(is_verified=False), an_answer(address=None, is_verified=False)],
)
def test_unverified_address_finds_no_account(answer, at_address):
    assert after(answer, None, at_address) == AsksAddress()

    with pytest.raises(AddressNeeded):
        after(answer, None, at_address, has_mail=False)


@pytest.mark.parametrize("refusal", [NoAccount, AddressNeeded, AddressUnconfirmed])
def test_refused_visit_says_how_an_account_is_linked(refusal):
    link = "sign in to it another way and add this sign-in on the page Account."

    assert link in refusal.public
    assert "ask your admin" in refusal.public


def test_new_user_begins_an_account():
    assert after() == BeginsAccount(ADDRESS)


@pytest.mark.parametrize(
    ("answer", "entries"),
    [(an_answer(), providers()), (an_answer(is_of_domains=False), OPEN)],
)
def test_account_begins_only_as_the_entry_allows(answer, entries):
    with pytest.raises(NoAccount):
        after(answer, entries=entries)

    assert after(answer, None, an_account(), entries) == ProvesAccount()


def test_address_confirmed_by_a_code_goes_on_as_a_verified_one():
    entries = providers(may_sign_up=True, domains=["corp.example"])
    bare = an_answer(address=None, is_verified=False, is_of_domains=False)

    assert after(with_address(bare, ADDRESS, entries), entries=entries) == BeginsAccount(ADDRESS)
    assert after(with_address(bare, OTHER, OPEN)) == BeginsAccount(OTHER)
    for address in (OTHER, "maya@sub.corp.example", "maya@evilcorp.example"):
        with pytest.raises(NoAccount):
            after(with_address(bare, address, entries), entries=entries)
    assert after(with_address(bare, ADDRESS, entries), None, an_account(NOOR), entries) == (
        ProvesAccount()
    )


def test_confirmed_address_makes_no_member_of_an_organisation():
    """A private account at Google may have been made with an address of the domain."""
    entries = providers(may_sign_up=True, domains=["corp.example"])
    private = an_answer(address=None, is_verified=False, is_member=False, is_of_domains=False)

    with pytest.raises(NoAccount):
        after(with_address(private, ADDRESS, entries), entries=entries)


ONLY = providers({"only": True, "domains": ["corp.example"]}, may_sign_up=True)


@pytest.mark.parametrize(
    ("address", "provider", "is_good"),
    [
        (ADDRESS, "other", True),
        (ADDRESS, "corp", False),
        (ADDRESS, None, False),
        ("maya@sub.corp.example", None, True),
        ("maya@evilcorp.example", None, True),
        (OTHER, None, True),
    ],
)
def test_address_of_an_only_gets_in_by_it_alone(address, provider, is_good):
    try:
        check_way_in(ONLY, address, provider)
    except OtherSignInNeeded:
        is_refused = True
    else:
        is_refused = False

    assert is_refused is not is_good


def test_domains_without_only_bind_no_address():
    check_way_in(providers({"domains": ["corp.example"]}), ADDRESS)

    assert after(entries=providers({"domains": ["corp.example"]}, may_sign_up=True)) == (
        BeginsAccount(ADDRESS)
    )


@pytest.mark.parametrize(
    ("linked", "at_address"), [(an_account(), None), (None, an_account()), (None, None)]
)
def test_other_provider_does_not_get_around_an_only(linked, at_address):
    with pytest.raises(OtherSignInNeeded):
        after(linked=linked, at_address=at_address, entries=ONLY)


@given(
    st.builds(
        an_answer,
        address=st.sampled_from([None, ADDRESS, OTHER]),
        is_verified=st.booleans(),
        is_of_domains=st.booleans(),
    ),
    st.sampled_from([None, an_account(), an_account(NOOR, OTHER, is_confirmed=False)]),
    st.sampled_from([None, an_account(NOOR), an_account(NOOR, is_confirmed=False)]),
    st.sampled_from([OPEN, ONLY, providers()]),
    st.booleans(),
)
def test_no_answer_opens_an_account_that_it_is_not_linked_to(
    answer, linked, at_address, entries, has_mail
):
    try:
        found = next_of(answer, linked, at_address, entries, has_mail=has_mail)
    except Refused:
        return
    match found:
        case SignsIn():
            assert linked
        case ProvesAccount() | BeginsAccount():
            assert answer.is_verified
            assert linked is None
        case AsksAddress():
            assert has_mail


def test_identity_is_linked_to_one_account():
    assert check_link(MAYA, None)
    assert not check_link(MAYA, an_account())
    with pytest.raises(IdentityTaken):
        check_link(NOOR, an_account())


@pytest.mark.parametrize("asked", [RequestKind.PROOF, RequestKind.FRESH])
@pytest.mark.parametrize(
    ("ago", "is_recent"),
    [
        (timedelta(0), True),
        (timedelta(minutes=9, seconds=59), True),
        (timedelta(minutes=10), False),
    ],
)
def test_recent_sign_in_at_the_provider_is_a_proof(asked, ago, is_recent):
    answer = an_answer(signed_in_at=NOW - ago)

    if is_recent:
        assert proof_of(answer, asked, MAYA, an_account(), NOW) is ProofScope.FULL
    else:
        with pytest.raises(ProofNeeded):
            proof_of(answer, asked, MAYA, an_account(), NOW)


def test_fresh_answer_without_a_time_is_a_proof_of_its_own_kind():
    assert proof_of(an_answer(), RequestKind.FRESH, MAYA, an_account(), NOW) is ProofScope.PART
    for asked in (RequestKind.SIGN_IN, RequestKind.PROOF):
        with pytest.raises(ProofNeeded):
            proof_of(an_answer(), asked, MAYA, an_account(), NOW)


@pytest.mark.parametrize("linked", [None, an_account(NOOR)])
@pytest.mark.parametrize("answer", [an_answer(signed_in_at=NOW), an_answer()])
def test_identity_of_nobody_or_another_user_proves_nothing(linked, answer):
    with pytest.raises(IdentityTaken):
        proof_of(answer, RequestKind.FRESH, MAYA, linked, NOW)


def test_contents_of_a_step_are_read_as_they_were_written():
    request = new_request(
        "corp", RequestKind.PROOF, uuid4(), "https://daybook.example/oidc/corp/back"
    )
    contents = SignOn(
        purpose=SignOnPurpose.LINK, request=request, target="/account", invitation="x"
    )

    assert SIGN_ON.validate_json(SIGN_ON.dump_json(contents)) == contents
    shown = f"{contents!r}"
    assert not [one for one in (request.nonce, request.verifier, request.state) if one in shown]


# --- the identities of a user


def of_user(subject, name="Work"):
    at = datetime(2026, 11, 26, 12, tzinfo=UTC)
    identity = Identity("https://login.example.com", subject)
    return LinkedIdentity(identity=identity, name=name, created_at=at)


def test_identity_is_linked_and_unlinked():
    both = linked(linked((), of_user("a")), of_user("b"))

    assert both == (of_user("a"), of_user("b"))
    assert unlinked(both, of_user("a").identity) == (of_user("b"),)
    with pytest.raises(NotFound):
        unlinked(both, of_user("c").identity)


def test_identity_that_is_linked_again_is_there_once():
    both = (of_user("a"), of_user("b"))

    assert linked(both, of_user("a", "Home")) == (of_user("b"), of_user("a", "Home"))


def test_one_identity_is_used():
    both = (of_user("a"), of_user("b"))

    after = used(both, of_user("b").identity, NOW.replace(microsecond=5))

    assert after == (of_user("a"), replace(of_user("b"), last_used_at=NOW))


def test_one_identity_is_renamed():
    both = (of_user("a"), of_user("b"))

    assert renamed(both, of_user("b").identity, " Home ") == (of_user("a"), of_user("b", "Home"))
    for name in ("", " ", "x" * 61, "a\nb"):
        with pytest.raises(BadInput, match="Enter a name"):
            renamed(both, of_user("b").identity, name)


def test_user_has_ten_identities_at_most():
    ten = tuple(of_user(str(number)) for number in range(10))

    with pytest.raises(TooManyIdentities):
        linked(ten, of_user("eleventh"))
    assert len(linked(ten, of_user("3", "Home"))) == 10
