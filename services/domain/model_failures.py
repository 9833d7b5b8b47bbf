"""The kinds of failures of a model endpoint, and the error that is raised for them."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from services.errors import Unavailable

LONGEST_WAIT_SECONDS = 3600


class ModelFailure(StrEnum):
    """The kinds of failures of a model endpoint; how an answer shows one: `RULES` of services/llm/refusals.py."""

    UNREACHABLE = "unreachable"  # no connection
    BUSY = "busy"  # too many requests
    BROKEN = "broken"  # a fault of the endpoint
    UNAUTHORIZED = "unauthorized"  # the key is wrong or has no access to the model
    REJECTED = "rejected"  # the URL or the request is wrong
    NO_CREDIT = "no credit"  # the account at the provider has too little credit
    # the budget that a gateway sets to the app's key (LiteLLM) is used up
    BUDGET = "budget"
    NO_MODEL = "no model"  # the endpoint does not know the model
    PROMPT_FILTERED = "prompt filtered"  # the provider's content filter refused the prompt
    # the prompt is too long for the model's context window
    TOO_LONG = "too long"
    REPLY_LIMIT = "reply limit"  # replies of the requested length are not allowed
    NO_STREAM = "no stream"  # the endpoint does not stream
    NO_SYSTEM = "no system role"  # the model does not take the roles of the messages
    PARAMETER = "parameter"  # the endpoint does not know a parameter of the request
    SILENT = "silent"  # a timeout at the start of the stream, or between two pieces of it
    DROPPED = "dropped"  # the connection ended in the middle of a reply
    FILTERED = "filtered"  # the provider's content filter ended the reply
    # the response does not follow the protocol: HTML, malformed events, an empty stream
    GARBLED = "garbled"
    NO_ANSWER = "no answer"  # the model used all tokens up to the length limit for thoughts
    EMPTY = "empty"  # the stream ended normally without any text


@dataclass(frozen=True, slots=True)
class FailureDetails:
    """What an endpoint said of a failure, for the user whose turn it was: never stored, never logged."""

    status: int = 0  # the HTTP status; 0: none
    kind: str = field(default="", repr=False)  # the type of the error, as the endpoint names it
    code: str = field(default="", repr=False)
    # plain text, only about the user's own request
    sentence: str = field(default="", repr=False)


class ModelUnavailable(Unavailable):
    """The model endpoint failed."""

    def __init__(
        self,
        failure: ModelFailure,
        outage: str = "",
        wait_seconds: float = 0,
        details: FailureDetails | None = None,
    ) -> None:
        """*outage*: the sentence for admins, in Markdown, about an endpoint that does not answer.

        *wait_seconds*: how long the endpoint asks to wait, at most `LONGEST_WAIT_SECONDS`.
        """
        super().__init__(failure)
        self.failure, self._outage, self.details = failure, outage, details
        self._ready_at = time.monotonic() + wait_seconds
        self.public = _FAILURE_SENTENCES[failure]

    @property
    def wait_seconds(self) -> int:
        """The seconds that are left of the time for which the endpoint asked to wait."""
        return max(0, ceil(self._ready_at - time.monotonic()))

    @property
    def for_admins(self) -> str:
        if self._outage:
            return f"{self._outage} Your message is saved."
        return _FAILURES_FOR_ADMINS.get(self.failure, self.public)


_REJECTED = (
    "The model provider rejected the request. Your message is saved. "
    "Ask your admin to check the model name and API key."
)
_FAILURE_SENTENCES = {
    ModelFailure.UNREACHABLE: "The model cannot be reached. Your message is saved; try again.",
    ModelFailure.BUSY: "The model is busy (rate limit). Your message is saved; try again.",
    ModelFailure.BROKEN: "The model provider returned an error. Your message is saved; try again.",
    ModelFailure.UNAUTHORIZED: _REJECTED,
    ModelFailure.REJECTED: _REJECTED,
    ModelFailure.NO_CREDIT: "The model provider rejected the request. Your message is saved. "
    "Ask your admin to check the account at the provider.",
    ModelFailure.BUDGET: "The budget for the model is used up at its gateway. Your message is saved. "
    "Ask your admin to raise it, or try again once it is renewed.",
    ModelFailure.NO_MODEL: "The model provider does not know this model. Your message is saved. "
    "Choose another model, or ask your admin to check its name.",
    ModelFailure.PROMPT_FILTERED: "The model provider's content filter refused the request. "
    "Your message is saved. Edit the message to send it again.",
    ModelFailure.TOO_LONG: "This chat is too long for the model. Your message is saved; "
    "retry to send it with less of the earlier chat.",
    ModelFailure.REPLY_LIMIT: "The model allows only shorter replies. Your message is saved; "
    "lower “Max reply length” in Preferences, or choose another model.",
    ModelFailure.NO_STREAM: "The model provider does not stream this model's replies. "
    "Your message is saved; choose another model.",
    ModelFailure.NO_SYSTEM: "The model does not accept the roles of the messages, such as that of the instructions. "
    "Your message is saved; choose another model.",
    ModelFailure.PARAMETER: "The model provider does not accept a parameter of the request. "
    "Your message is saved; choose another model.",
    ModelFailure.SILENT: "The model stopped responding. Your message is saved; try again.",
    ModelFailure.DROPPED: "The connection to the model was lost. The partial reply is saved.",
    ModelFailure.FILTERED: "The model provider's content filter ended the reply. The partial reply is saved.",
    ModelFailure.GARBLED: "The model provider sent an unreadable response. Your message is saved. "
    "Ask your admin to check the provider's address.",
    ModelFailure.NO_ANSWER: "The model used its whole reply limit for thinking. Your message is saved; "
    "raise “Max reply length” in Preferences, or choose another model.",
    ModelFailure.EMPTY: "The model sent an empty reply. Your message is saved; try again.",
}
_FAILURES_FOR_ADMINS = {
    ModelFailure.UNAUTHORIZED: "The model provider rejected the API key, or the key may not use this model. "
    "Your message is saved. Check OPENAI_API_KEY.",
    ModelFailure.REJECTED: "The model provider rejected the request. Your message is saved. "
    "Check the model name (DAYBOOK_MODEL, DAYBOOK_MODELS) and OPENAI_BASE_URL.",
    ModelFailure.NO_CREDIT: "The model provider rejected the request, because the account there has too little credit. "
    "Your message is saved. Add credit at the provider.",
    ModelFailure.BUDGET: "The budget of this key is used up at the gateway. Your message is saved. "
    "Raise the budget there, or wait until it is renewed.",
    ModelFailure.NO_MODEL: "The model provider does not know this model. Your message is saved. "
    "Check DAYBOOK_MODEL and DAYBOOK_MODELS.",
    ModelFailure.GARBLED: "The model provider sent an unreadable response. Your message is saved. "
    "Check OPENAI_BASE_URL.",
}
