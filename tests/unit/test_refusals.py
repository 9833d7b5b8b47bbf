"""What endpoints mean by a refusal, and the next request, in the words in which they say it."""

import pytest

from services.domain.model_failures import ModelFailure
from services.llm.model_spec import LimitRefusal
from services.llm.refusals import NEWER_LIMIT, STREAM_OPTIONS, RequestForm, read_refusal

ASKED = 9_000  # tokens of a reply


def refusal(status, error, sent="Hello there"):
    """Return a refusal: *error* is a body, or its message."""
    body = error if isinstance(error, dict | list) else {"error": {"message": error}}
    return read_refusal(status, body, sent)


def invalid(*path, msg="Extra inputs are not permitted"):
    """Return an error of FastAPI about the parameter at *path*."""
    return {"detail": [{"type": "x", "loc": ["body", *path], "msg": msg, "input": "Hello"}]}


def coded(code, message="x", **fields):
    return {"error": {"message": message, "code": code} | fields}


SAID = {
    ModelFailure.PROMPT_FILTERED: [
        (403, 'Your input was flagged for "violence". No credits were charged.'),
        (400, coded("SAFETY", "Request blocked by safety filter")),
        (400, "Violated the platform's moderation policy"),
        (400, coded("InputTextSensitiveContentDetected")),
        (400, "Candidate was blocked due to SAFETY"),
        (400, "Invalid prompt: we've limited access to this content for safety reasons."),
        (400, "litellm.ContentPolicyViolationError: no"),
        (400, "The request was rejected because it was considered high risk"),
        (400, coded("1301", "系统检测到输入或生成内容可能包含不安全或敏感内容")),
        (400, "Request flagged by guardrail 'pii'"),
    ],
    ModelFailure.BUDGET: [
        (429, "Your monthly budget has been used up"),
        (429, "Team budget exhausted"),
        (429, "Your budget has run out"),
        (429, "Spend limit reached"),
        (429, "You have reached your monthly spending limit."),
        (400, "Budget limit reached"),
        (429, "No deployments available - crossed budget: Exceeded budget for deployment"),
        (429, coded("SetLimitExceeded")),
    ],
    ModelFailure.NO_CREDIT: [
        (403, "Your newly created team doesn't have any credits or licenses yet"),
        (403, "Your team has used all available credits or reached its monthly spending limit."),
        (403, coded("AccountOverdueError")),
        (403, coded("insufficient_user_quota", "用户额度不足")),
        (412, "Account x is suspended, possibly due to reaching the monthly spending limit"),
    ],
    ModelFailure.NO_MODEL: [
        (404, "Not found the model kimi-k9 or Permission denied"),
        (404, 'model "llama9" not found, try pulling it first'),
        (404, coded("ModelNotOpen", "Your account has not activated the model doubao.")),
        (404, "No models loaded. Please load a model"),
        (404, "Model 'x' is not loaded"),
        (400, "Unsupported model: x"),
        (403, coded("model_not_found", "Project `p` does not have access to model `gpt-5`")),
    ],
    ModelFailure.NO_STREAM: [
        (400, "Please set stream to false"),
        (400, "This model only supports stream=false"),
        (400, "Streaming not implemented"),
        (400, "'stream' must be set to false"),
        (400, "Unknown parameter: 'stream'"),
        (400, "Streaming completion is not support yet, please remove 'stream' key"),
        (400, "Only non-streaming requests are supported"),
        (422, invalid("stream")),
        (400, coded("unsupported_value", "Verify your organization.", param="stream")),
        (405, "Streaming is not supported"),
        (500, "Streaming is not supported"),
        (501, "Not implemented: streaming"),
    ],
    ModelFailure.NO_SYSTEM: [
        (400, "Invalid role: system"),
        (400, "Unsupported role: system"),
        (400, "'system' is not one of ['user', 'assistant']"),
        (400, "Only 'user' and 'assistant' roles are allowed"),
        (400, "Invalid value: 'system'. Supported values are: 'user' and 'assistant'"),
        (400, "message role not supported yet: system"),
        (400, "Please use a valid role: user, model."),
        (400, 'messages: Unexpected role "system". The Messages API accepts a top-level one'),
        (422, invalid("messages", 0, "role", msg="Input should be 'user' or 'assistant'")),
        (500, "Jinja Exception: System role not supported"),
        (400, "role must be one of: user, assistant"),
        (400, "First message must be from the user"),
    ],
    ModelFailure.PARAMETER: [
        (400, "Unrecognized request argument supplied: max_tokens"),
        (400, "Unknown field: include_usage"),
        (422, invalid("stream_options")),
        (400, "Unknown parameter: 'budget'"),
        (
            400,
            "Error code: 400 - {'error': {'message': \"Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.\", 'type': 'invalid_request_error'}}",
        ),
    ],
    ModelFailure.REPLY_LIMIT: [
        (400, "max_tokens is too large"),
        (400, "max_tokens参数非法"),
    ],
    ModelFailure.TOO_LONG: [
        (400, "Your input exceeds the context window of this model."),
        (400, "Please reduce the length of the messages or completion."),
        (400, "Input is too long for requested model."),
        (400, coded("1261", "Prompt 超长")),
    ],
    ModelFailure.BUSY: [
        (None, "Rate limit reached for model"),
        (429, "This request would exceed your rate limit of 30,000 input tokens per minute"),
        (429, "Too many tokens, please wait before trying again."),
    ],
    ModelFailure.BROKEN: [
        (500, "Error while streaming: Service Unavailable"),
        (None, "The stream was interrupted: backend unavailable"),
        (500, "the system prompt cache is not available, please retry later"),
        (503, "retry budget exhausted"),
    ],
    ModelFailure.UNAUTHORIZED: [
        (403, "Your account has been suspended for violating our usage policies"),
    ],
    ModelFailure.GARBLED: [(404, {"error": "<html><body>Not Found</body></html>"})],
    ModelFailure.REJECTED: [
        (400, "temperature must be at most 1"),
        (400, "max_tokens must be greater than thinking.budget_tokens"),
        (400, "This model only support stream mode, please enable the stream parameter."),
        (400, "User location is not supported for the API use."),
    ],
}


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [(failure, *said) for failure, every in SAID.items() for said in every],
)
def test_failure_is_known_by_the_words_of_endpoints(failure, status, error):
    assert refusal(status, error).failure is failure


@pytest.mark.parametrize(
    "error",
    [
        "max tokens must be less than or equal to 4096",
        "max_tokens must be in range [1, 4096]",
        "max_tokens is too large: 9000 (max 4096)",
        "max_tokens must be no more than 4096",
        "max_tokens exceeds the maximum of 4,096",
        "max_tokens is too high, limit is 4096",
        "max_tokens (9000) is greater than the maximum allowed (4096)",
        "max_tokens must be less than 4097",
        "max_tokens must be 4096 or less",
        "max_tokens cannot be greater than 4,096",
        "max_output_tokens: 8192 > 4096",
        "maxOutputTokens is 9000 but the supported range is from 1 (inclusive) to 4097 (exclusive)",
        "The maximum tokens you requested exceeds the model limit of 4096. Try one lower than 4096.",
        "max_tokens参数非法。限制数值范围[1,4096]",
        "maximum value for max_tokens is 4096",
        "`max_tokens` must be less than or equal to `4096`, which is less than the `context_window`",
        invalid("max_tokens", msg="Input should be less than or equal to 4096"),
    ],
)
def test_reply_limit_is_read_in_each_endpoints_words(error):
    refused = refusal(422, error)

    assert refused.failure is ModelFailure.REPLY_LIMIT
    assert refused.limits == LimitRefusal(reply_tokens=4_096)


@pytest.mark.parametrize(
    "error",
    [
        "This model's maximum context length is 8,192 tokens.",
        "Prompt is longer than the maximum of 8192 tokens",
        "Too many tokens: 9000 > 8192",
        "Input length 9000 exceeds the maximum length 8192",
        "Input tokens exceed the configured limit of 8192 tokens.",
        "Prompt token count of 9000 exceeds max token count of 8192",
        "Number of tokens (9000) exceeded maximum context length (8192).",
        "The input token count exceeds the maximum number of tokens allowed 8192.",
        "The estimated number of maximum output tokens (9000) exceeded the context window limit (8192).",
        "Your request exceeded model token limit : 8192 (requested: 9000)",
    ],
)
def test_window_is_read_in_each_endpoints_words(error):
    refused = refusal(400, error)

    assert refused.failure is ModelFailure.TOO_LONG
    assert refused.limits == LimitRefusal(context_tokens=8_192)


@pytest.mark.parametrize(
    "error",
    [
        "Your message exceeds the maximum of 2000 characters",
        "max_tokens must be in range [1,2]",
        "maximum context length is 128k tokens",
        "Requests exceed the limit of 30000 tokens per minute",
        "conversation exceeds 2048 turns",
        "The chat has more than 4096 tool calls",
        "request over 5000 ms deadline exceeded",
        "messages with timestamps greater than 2024-01-01",
        "max_tokens is fine, but image size is limited to 2048 px",
    ],
)
def test_number_of_something_else_is_no_limit(error):
    assert refusal(400, error).limits == LimitRefusal()


@pytest.mark.parametrize(("status", "code"), [(402, None), (None, 402), (None, "x")])
@pytest.mark.parametrize(("stated", "tokens"), [("391", 391), ("1,391", 1_391)])
def test_affordable_reply_is_no_limit_of_the_model(status, code, stated, tokens):
    said = f"fewer max_tokens. You requested up to 500 tokens, but can only afford {stated}"

    refused = refusal(status, coded(code, said))

    assert (refused.affordable_tokens, refused.limits) == (tokens, LimitRefusal())


@pytest.mark.parametrize(
    ("error", "names"),
    [
        ("Unrecognized request argument supplied: max_tokens", {NEWER_LIMIT}),
        (coded("unsupported_parameter", param="max_tokens"), {NEWER_LIMIT}),
        (invalid("max_tokens"), {NEWER_LIMIT}),
        ("Unknown field: include_usage", {STREAM_OPTIONS}),
        (invalid("stream_options", "include_usage"), {STREAM_OPTIONS}),
    ],
)
def test_refused_parameter_is_left_out_or_renamed(error, names):
    assert RequestForm().after(refusal(400, error)).refused == names


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ("Please try again in 7.66s.", 7.66),
        ("Please try again in 2m30s. Visit", 150),
        ("try again in 120ms", 0.12),
        ("Please try again in 1h2m3s", 3_600),
        ("No deployments available, Try again in 60 seconds.", 60),
        ("please try again after 1 seconds", 1),
        ({"error": {"message": "x", "retry_after": 30}}, 30),
        ([{"error": {"details": [{"@type": "Help"}, {"retryDelay": "7s"}]}}], 7),
        ("try again soon", 0),
    ],
)
def test_wait_is_read_in_each_endpoints_words(error, seconds):
    assert refusal(429, error).wait_seconds == seconds
    assert refusal(400, error).wait_seconds == 0


PASTED = (
    "This model's maximum context length is 8192 tokens. However, you requested 8256 tokens "
    "(64 in the messages, 8192 in the completion). Please reduce the length of the messages."
)
CHAT = f"A context window? Content filter triggered. Unknown model: gpt-9, insufficient balance\n{PASTED}"


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, "The context window is full.", ModelFailure.TOO_LONG),
        (400, "Error: Content filter triggered", ModelFailure.PROMPT_FILTERED),
        (404, "Unknown model: gpt-9", ModelFailure.NO_MODEL),
        (429, "insufficient balance", ModelFailure.NO_CREDIT),
        (400, PASTED, ModelFailure.TOO_LONG),
        (400, PASTED.replace("8256", "9000"), ModelFailure.TOO_LONG),
        (400, f"OpenAIException - {PASTED.replace('8256', '9000')}", ModelFailure.TOO_LONG),
    ],
)
def test_words_that_a_chat_shares_are_the_endpoints_own(status, error, failure):
    refused = refusal(status, error, CHAT)

    assert refused.failure is failure
    assert refused.strict.limits.context_tokens is None


QUOTED = "maximum context length is 600"


@pytest.mark.parametrize("sent", [QUOTED, f"Why does it say {QUOTED}?"])
@pytest.mark.parametrize(
    "error",
    ["Bad value in: {}", 'Invalid prompt "{}"', "{}", "The {}", "input '{}…' of max_tokens"],
)
def test_number_that_the_request_contains_is_not_remembered(error, sent):
    assert refusal(400, error.format(QUOTED), sent).strict.limits == LimitRefusal()


@pytest.mark.parametrize("error", ["Bad value in: {}", 'Invalid prompt "{}"', "input='{}', line 1"])
def test_quote_of_the_request_is_cut_out(error):
    refused = refusal(400, error.format(QUOTED), f"Why does it say {QUOTED}?")

    assert refused.failure is ModelFailure.REJECTED
    assert refused.limits == LimitRefusal()
