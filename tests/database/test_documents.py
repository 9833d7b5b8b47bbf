"""Documents: replaced only by a caller who has seen the revision, limited in number, and visible to their user only."""

import pytest

from tests.database.people import MISUSE, a_document, sealed

OK = {"ok": True}
STALE = {"ok": False, "reason": "stale"}
NOT_FOUND = {"ok": False, "reason": "not_found"}
KINDS = [
    *("fact", "fact of a conversation", "space", "preferences"),
    *("instructions", "summary"),
]


@pytest.fixture(params=KINDS)
def document(request, maya, garden):
    """Return the arguments that store a new document of each kind."""
    kind, _, scope = request.param.partition(" ")
    if kind in ("instructions", "summary"):
        return a_document(kind, document=garden, conversation=garden, cuts=0)
    if kind == "preferences":
        return a_document(kind, document=maya.id)
    return a_document(kind, conversation=garden if scope else None)


def stored(maya, document):
    """Return the revision and the body of a stored document."""
    kind = document["new_kind"]
    if kind in ("instructions", "summary"):
        (row,) = maya.rows("conversations")
        return row[f"{kind}_rev"], row[kind]
    (row,) = maya.rows("documents")
    return row["rev"], row["body"]


def test_document_is_replaced_by_who_has_seen_it(maya, document):
    newer = document | {"seen_rev": 1, "new_rev": 5, "new_body": sealed("newer")}

    for arguments in (document, document, newer, newer):  # a repeated call changes nothing
        assert maya.call("put_document", **arguments) == OK
    for seen_rev in (0, 1, 4, 6):
        late = document | {"seen_rev": seen_rev, "new_rev": 9, "new_body": sealed("late")}
        assert maya.call("put_document", **late) == STALE

    assert stored(maya, document) == (5, sealed("newer"))


@pytest.mark.parametrize(("seen_rev", "new_rev"), [(1, 1), (2, 1), (-1, 1), (None, 1), (0, None)])
def test_revision_only_rises(maya, document, seen_rev, new_rev):
    arguments = document | {"seen_rev": seen_rev, "new_rev": new_rev}

    assert maya.refusal("put_document", **arguments) == MISUSE


def test_scope_of_a_fact_is_a_space_and_no_other_document(maya):
    fact = a_document()
    maya.call("put_document", **fact)

    assert maya.call("put_document", **a_document(space=fact["document"])) == NOT_FOUND
    moved = maya.change(maya.create_conversation(), space_id=str(fact["document"]))
    assert moved == {"ok": False, "reason": "no_space"}


def test_preferences_have_the_id_of_their_user(maya):
    assert maya.refusal("put_document", **a_document("preferences")) == "23514"


def test_preferences_are_not_deleted(maya):
    preferences = a_document("preferences", document=maya.id)
    maya.call("put_document", **preferences)

    assert maya.call("delete_document", document=maya.id) == NOT_FOUND
    assert maya.call("delete_facts") == OK

    assert stored(maya, preferences) == (1, sealed("preferences"))


@pytest.mark.parametrize(("kind", "most"), [("fact", 5000), ("space", 500)])
def test_documents_of_a_kind_are_bounded(world, maya, kind, most):
    world.admin.execute(
        "insert into public.documents (id, user_id, kind, rev, body)"
        " select gen_random_uuid(), %s, %s, 1, %s from generate_series(1, %s)",
        [maya.id, kind, sealed(kind), most - 1],
    )

    assert maya.call("put_document", **a_document(kind)) == OK
    assert maya.call("put_document", **a_document(kind)) == {"ok": False, "reason": "too_many"}
