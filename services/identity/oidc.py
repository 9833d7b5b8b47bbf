"""The client of OpenID Connect providers (Core 1.0): the authorization code flow with PKCE, and a nonce.

Only this module imports Authlib, which builds the authorization request and redeems the code, and joserfc, which
verifies signatures. This module is imported at the first sign-in by a provider, so that the app starts without
loading these libraries.
"""

import asyncio
import base64
import math
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Generic, Protocol, TypeVar, cast
from urllib.parse import quote_plus, urlencode

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc.errors import (
    BadSignatureError,
    InvalidKeyIdError,
    JoseError,
    UnsupportedAlgorithmError,
    UnsupportedHeaderError,
)
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import decode
from joserfc.registry import Header
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.bounded_body import bound_body
from services.domain.single_sign_on import (
    AnswerFault,
    AnswerRefused,
    ProviderAnswer,
    ProviderFault,
    ProviderRequest,
    ProviderUnavailable,
    RequestKind,
)
from services.events import log_event
from services.identity.oidc_checks import Claims, answer_of, check_claims, code_of
from services.provider_settings import ProviderSettings, is_address
from services.store.operator import Finding, Mark

# the accepted signature algorithms; all others are refused, even if a provider announces them
_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_SCOPE = "openid email"  # no offline_access, because no token is stored
_SECONDS = 10.0  # maximum seconds for all calls to the provider during one request of a browser
_OK = 200
_MOST_BYTES = 256_000  # maximum bytes of one HTTP response
_CACHED_SECONDS = 3600.0  # seconds that metadata and keys are cached
# minimum seconds between two fetches of the keys, even if no key fits a signature or the last fetch failed
_KEYS_SECONDS = 60.0
# error codes of the token endpoint for a wrong client id or secret; Keycloak sends the second one. A tuple, because a provider
# may send an object, which is in no set
_WRONG_CLIENT = ("invalid_client", "unauthorized_client")
# OSError covers the TimeoutError of `asyncio.timeout`, and an ssl.SSLError after the TLS handshake, which httpx2 does not
# convert to an HTTPError
_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, OSError)
Document = TypeVar("Document")


class _Metadata(BaseModel):
    """The metadata that a provider publishes (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False

    def is_of(self, entry: ProviderSettings) -> bool:
        """Return True if the metadata has the issuer of *entry*, and all its URLs are safe."""
        addresses = (
            *(self.authorization_endpoint, self.token_endpoint, self.jwks_uri),
            *(one for one in (self.userinfo_endpoint, self.end_session_endpoint) if one),
        )
        return self.issuer == entry.issuer and all(
            is_address(one, may_be_here=entry.is_on_this_machine) for one in addresses
        )


class _KeyList(BaseModel):
    """A JWK set (RFC 7517)."""

    keys: list[dict[str, object]]


# the faults that `check` can find, as the operator reads them
_FOUND = {
    ProviderFault.CALL: "does not answer: check its issuer and the network",
    ProviderFault.METADATA: "has no metadata at its issuer: check it",
    ProviderFault.ISSUER: "has another issuer in its metadata: copy that one, to the last slash",
    ProviderFault.ADDRESS: "has an address without https in its metadata",
    ProviderFault.KEYS: "has no keys that can be read",
}
_METADATA, _KEYS = TypeAdapter(_Metadata), TypeAdapter(_KeyList)
_PROFILE = TypeAdapter(dict[str, object])


@dataclass(frozen=True, slots=True)
class _Fetched(Generic[Document]):
    """A provider's document, and the time when it was fetched, by the clock of `Provider`."""

    document: Document
    at: float


class _Client(Protocol):
    """The members of Authlib's client that are used here, declared because Authlib has no types."""

    def create_authorization_url(
        self, url: str, *, state: str, code_verifier: str, **parameters: str
    ) -> tuple[str, str]: ...
    def client_auth(self, auth_method: object) -> object: ...
    async def fetch_token(
        self, url: str, *, auth: object, grant_type: str, **parameters: str
    ) -> Mapping[str, object]: ...
    async def get(self, url: str, *, auth: None, headers: Mapping[str, str]) -> httpx2.Response: ...
    async def aclose(self) -> None: ...


class _Registry(JWSRegistry):
    """Accepts only the algorithms in `_ALGORITHMS` (EdDSA without joserfc's warning); refuses critical header extensions."""

    def check_header(self, header: Header) -> None:
        # joserfc would accept the critical header b64 (an unencoded payload), which no JWT may have (RFC 7797, section 7)
        if "crit" in header:
            raise UnsupportedHeaderError
        super().check_header(header)

    def get_alg(self, name: str):  # no return type, because joserfc does not export it
        if name not in _ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class Provider:
    """A provider of single sign-on. All async methods raise ProviderUnavailable, and take at most *seconds*.

    Calls run concurrently on one event loop: a call that waits for its provider does not delay other calls.
    """

    def __init__(
        self,
        name: str,
        entry: ProviderSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        seconds: float = _SECONDS,
    ) -> None:
        self._name, self._entry = name, entry
        self._now, self._clock, self._seconds = now, clock, seconds
        self._metadata: _Fetched[_Metadata] | None = None
        self._keys: _Fetched[KeySet] | None = None
        # time of the last key fetch, even if it failed, by `_clock`
        self._keys_asked_at = -math.inf
        self._fetching = asyncio.Lock()  # concurrent requests share one fetch

    async def authorization_address(self, request: ProviderRequest) -> str:
        """Return the provider's authorization URL for *request*, to which the browser is redirected."""
        # Google does not support the prompt "login"
        prompt = "select_account" if self._entry.is_google else "login"
        again = {} if request.asked is RequestKind.SIGN_IN else {"max_age": "0", "prompt": prompt}
        async with self._calls() as client:
            metadata = await self._read_metadata(client)
            address, _ = client.create_authorization_url(
                metadata.authorization_endpoint,
                state=request.state,
                code_verifier=request.verifier,
                nonce=request.nonce,
                redirect_uri=request.redirect_uri,
                response_mode="query",
                **again,
            )
        return address

    async def redeem(
        self, request: ProviderRequest, parameters: Sequence[tuple[str, str]]
    ) -> ProviderAnswer:
        """Return the provider's response to *request*; *parameters*: the query parameters with which the browser came back.

        Raise AnswerRefused if a check of the response fails.
        """
        try:
            return await self._redeem(request, parameters)
        except AnswerRefused as error:
            log_event("oidc.refused", fault=error.fault)
            raise

    @property
    def has_sign_out(self) -> bool:
        """False if the most recently read metadata has no URL for signing out of the provider."""
        return self._metadata is None or bool(self._metadata.document.end_session_endpoint)

    async def sign_out_address(self, return_to: str) -> str | None:
        """Return the URL for signing out of the provider, which then redirects the browser to *return_to*; None if it
        has no such URL.
        """
        async with self._calls() as client:
            address = (await self._read_metadata(client)).end_session_endpoint
        if not address:
            return None
        sent = {"client_id": self._entry.client_id, "post_logout_redirect_uri": return_to}
        return f"{address}{'&' if '?' in address else '?'}{urlencode(sent)}"

    async def read(self) -> None:
        """Read the provider's metadata and keys."""
        async with self._calls() as client:
            await self._read_keys(client, await self._read_metadata(client), _CACHED_SECONDS)

    async def _redeem(
        self, request: ProviderRequest, parameters: Sequence[tuple[str, str]]
    ) -> ProviderAnswer:
        async with self._calls() as client:
            metadata = await self._read_metadata(client)
            code = code_of(
                parameters,
                self._name,
                self._entry,
                request,
                names_issuer=metadata.authorization_response_iss_parameter_supported,
            )
            id_token, access_token = await self._tokens(client, metadata, request, code)
            claims = await self._claims(client, metadata, id_token)
            check_claims(claims, self._entry, request, self._now())
            profile = claims
            if "email" not in claims and metadata.userinfo_endpoint and access_token:
                address, fault = metadata.userinfo_endpoint, ProviderFault.PROFILE
                profile = await self._get(client, address, _PROFILE, fault, access_token)
                if profile.get("sub") != claims["sub"]:
                    raise AnswerRefused(AnswerFault.PROFILE)
        return answer_of(claims, profile, self._name, self._entry)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    @asynccontextmanager
    async def _calls(self) -> AsyncGenerator[_Client]:
        """Yield a client for the calls of one request; then close the client, which drops its tokens."""
        client = cast(Callable[..., _Client], AsyncOAuth2Client)(
            self._entry.client_id,
            self._entry.client_secret.get_secret_value(),
            scope=_SCOPE,
            code_challenge_method="S256",
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            timeout=self._seconds,
            event_hooks={"response": [_bound]},
            verify=self._tls,
            # for a provider on this machine, ignore the environment's proxy, which cannot reach this machine's loopback
            trust_env=not self._entry.is_on_this_machine,
        )
        try:
            async with asyncio.timeout(self._seconds):
                yield client
        except _ERRORS as error:
            raise _unavailable(ProviderFault.CALL, error) from None
        finally:
            await client.aclose()

    async def _read_metadata(self, client: _Client) -> _Metadata:
        async with self._fetching:
            if self._metadata is None or self._is_older(self._metadata, _CACHED_SECONDS):
                at = f"{self._entry.issuer.rstrip('/')}/.well-known/openid-configuration"
                metadata = await self._get(client, at, _METADATA, ProviderFault.METADATA)
                if not metadata.is_of(self._entry):
                    is_other = metadata.issuer != self._entry.issuer
                    raise _unavailable(ProviderFault.ISSUER if is_other else ProviderFault.ADDRESS)
                self._metadata = _Fetched(metadata, self._clock())
            return self._metadata.document

    async def _tokens(
        self, client: _Client, metadata: _Metadata, request: ProviderRequest, code: str
    ) -> tuple[str, str | None]:
        """Return the ID token for *code*, and the access token or None. Raise AnswerRefused, ProviderUnavailable."""
        offered = metadata.token_endpoint_auth_methods_supported
        is_posted = "client_secret_post" in offered and "client_secret_basic" not in offered
        try:
            tokens = await client.fetch_token(
                metadata.token_endpoint,
                auth=client.client_auth("client_secret_post" if is_posted else self._identify),
                grant_type="authorization_code",
                code=code,
                code_verifier=request.verifier,
                redirect_uri=request.redirect_uri,
            )
        # do not chain the error, whose description is the provider's text
        except OAuthError as error:
            if error.error == "invalid_grant":
                raise AnswerRefused(AnswerFault.CODE) from None
            is_client = error.error in _WRONG_CLIENT
            fault = ProviderFault.CLIENT if is_client else ProviderFault.TOKEN
            raise _unavailable(fault, error) from None
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise _unavailable(ProviderFault.TOKEN, error) from None  # Authlib cannot read it
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise AnswerRefused(AnswerFault.TOKEN)
        if isinstance(access_token, str) and access_token.isascii():
            return id_token, access_token
        return id_token, None

    def _identify(
        self,
        _client: object,
        _method: str,
        url: str,
        headers: MutableMapping[str, str],
        body: bytes,
    ) -> tuple[str, MutableMapping[str, str], bytes]:
        """Add the client's id and secret to *headers*, each form-encoded (RFC 6749, 2.3.1): Authlib fails to encode them."""
        pair = (self._entry.client_id, self._entry.client_secret.get_secret_value())
        encoded = base64.b64encode(":".join(map(quote_plus, pair)).encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
        return url, headers, body

    async def _claims(self, client: _Client, metadata: _Metadata, token: str) -> Claims:
        """Return the claims of *token*, verified with the provider's cached keys or, if none fits, with newly fetched keys.

        Raise AnswerRefused, ProviderUnavailable.
        """
        for seconds in (_CACHED_SECONDS, _KEYS_SECONDS):
            keys = await self._read_keys(client, metadata, seconds)
            try:
                return decode(token, keys, registry=_Registry(strict_check_header=False)).claims
            except (BadSignatureError, InvalidKeyIdError):
                continue
            except (JoseError, ValueError, TypeError, RecursionError):
                break
        raise AnswerRefused(AnswerFault.TOKEN)

    async def _read_keys(self, client: _Client, metadata: _Metadata, seconds: float) -> KeySet:
        """Return the provider's keys; if no cached keys are less than *seconds* old, fetch new keys.

        If the last fetch was tried less than `_KEYS_SECONDS` ago, return older keys instead. Raise
        ProviderUnavailable if the fetch fails, or there are no older keys.
        """
        async with self._fetching:
            if self._keys is None or self._is_older(self._keys, seconds):
                if self._clock() - self._keys_asked_at >= _KEYS_SECONDS:
                    self._keys_asked_at = self._clock()
                    address, fault = metadata.jwks_uri, ProviderFault.KEYS
                    listed = await self._get(client, address, _KEYS, fault)
                    self._keys = _Fetched(_usable(listed), self._clock())
                if self._keys is None:
                    raise _unavailable(ProviderFault.KEYS)
            return self._keys.document

    def _is_older(self, fetched: _Fetched[Document], seconds: float) -> bool:
        return self._clock() - fetched.at >= seconds

    async def _get(
        self,
        client: _Client,
        address: str,
        form: TypeAdapter[Document],
        fault: ProviderFault,
        access_token: str | None = None,
    ) -> Document:
        """Return the document at *address*. Raise ProviderUnavailable, with *fault* if the response cannot be used."""
        headers = {"Accept": "application/json"}
        if access_token:
            headers["Authorization"] = f"Bearer {access_token}"
        response = await client.get(address, auth=None, headers=headers)
        if response.status_code != _OK:
            raise _unavailable(fault, status=response.status_code)
        with suppress(ValidationError):
            return form.validate_json(response.content)
        # raised outside of the block, because inside it the chained traceback would contain the response
        raise _unavailable(fault, status=_OK)


def check(entries: Mapping[str, ProviderSettings]) -> Finding:
    """Read the metadata and keys of all providers; return the finding for the operator."""
    found = list[str]()
    for name, entry in entries.items():
        try:
            asyncio.run(Provider(name, entry).read())
        except ProviderUnavailable as error:
            found.append(f"{name} {_FOUND[error.fault]}")
    if found:
        return Mark.FAIL, "; ".join(found)
    text = "metadata and keys can be read; a sign-in tests the client secret"
    return Mark.OK, f"{', '.join(entries)}: {text}"


async def _bound(response: httpx2.Response) -> None:
    bound_body(response, _MOST_BYTES)


def _usable(listed: _KeyList) -> KeySet:
    """Return the listed keys that joserfc can use; a provider may list other keys, too."""
    keys: list[Key] = []
    for one in listed.keys:
        # skip private keys: a published one proves nothing, because anyone can sign with it, and importing it may take hours
        if "d" in one:
            continue
        with suppress(JoseError, ValueError, TypeError, KeyError):
            keys.append(JWKRegistry.import_key(cast(dict[str, str | list[str]], one)))
    return KeySet(keys)


def _unavailable(
    fault: ProviderFault, error: Exception | None = None, status: int | None = None
) -> ProviderUnavailable:
    kind = type(error) if error else None
    log_event("oidc.unavailable", reason=fault, status=status, error=kind)
    return ProviderUnavailable(fault)
