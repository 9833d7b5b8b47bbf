"""Context policies, which choose the messages that are sent with a prompt.

To add a policy, declare it in `POLICIES`, select its messages in services/memory/planner.py, and add its name on screen
to pages/_parts/words.py.
"""

from dataclasses import dataclass

WINDOW_MESSAGES = 20  # the default number of messages in a window


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """A policy as stored: its name and, for a policy with a window, the size of the window in messages."""

    name: str
    messages: int | None = None

    @property
    def is_known(self) -> bool:
        """True if this version of the app declares the policy; false if a newer version stored it."""
        return self.name in POLICIES

    @property
    def kind(self) -> "PolicyKind":
        """The policy's declaration; for a policy of a newer version, a declaration of its name alone."""
        return POLICIES.get(self.name) or PolicyKind(self.name)

    @property
    def most_messages(self) -> int | None:
        """The number of messages to which a window may grow: 1.5 times *messages*, rounded up to whole pairs.

        A larger window is trimmed to *messages*. Because this happens rarely, consecutive prompts begin with the same
        messages, which providers cache.
        """
        return None if self.messages is None else self.messages + -(-self.messages // 4) * 2


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """The declaration of a policy. Calling the declaration returns a `MemoryPolicy`."""

    name: str  # stored in the database
    # the default size of the policy's window, in messages; None: the policy has no window
    messages: int | None = None
    sends_all: bool = False  # the policy sends all messages, and refuses a chat that does not fit
    needs_search: bool = False  # the policy needs a search for older messages that match the prompt
    needs_summary: bool = False  # the policy needs a summary of older messages

    def __call__(self, messages: int | None = None) -> MemoryPolicy:
        """Return the policy. *messages*: the size of its window, if it has a window; None: the default size."""
        if self.messages is None or messages is None:
            messages = self.messages
        return MemoryPolicy(self.name, messages)


Full = PolicyKind("full", sends_all=True)  # all messages, or a clear refusal if they do not fit
Window = PolicyKind("window", messages=WINDOW_MESSAGES)  # only the last messages
Summary = PolicyKind("summary", needs_summary=True)  # recent messages, and a summary of the rest
Retrieval = PolicyKind("retrieval", needs_search=True)  # recent messages, and related older ones
POLICIES = {kind.name: kind for kind in (Full, Window, Summary, Retrieval)}


def policy_named(name: str, messages: int | None = None) -> MemoryPolicy:
    """Return the policy with a stored *name* and, if it has a window, a window of *messages* (None: the default)."""
    kind = POLICIES.get(name)
    return kind(messages) if kind else MemoryPolicy(name, messages)
