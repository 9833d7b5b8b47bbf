"""Limits of a valid access token that the database itself enforces."""

from uuid import uuid4

import pytest

from tests.database.people import SIGNED_OUT, Refused, with_token


def test_access_token_of_before_a_suspension_opens_nothing(world):
    admin, omar = world.make_admin(world.person()), world.person()
    omar.create_conversation()
    for suspended in (True, False):
        assert admin.call("suspend", person=omar.id, suspended=suspended) == {"ok": True}
        assert omar.refusal("my_account") == SIGNED_OUT

    again = with_token(world, omar.id).with_session()
    assert len(again.rows("conversations")) == 1


@pytest.mark.parametrize("column", ["conversation_id", "user_id", "turn_id", "id"])
def test_planner_estimates_reveal_no_other_users_rows(world, column):
    maya, omar = world.person(), world.person()
    turn = omar.begin(omar.create_conversation())["turn"]
    world.admin.execute(
        "insert into public.messages (id, conversation_id, user_id, turn_id, seq, role, body)"
        " select gen_random_uuid(), conversation_id, user_id, turn_id, seq + n, role, body"
        " from public.messages, generate_series(1, 10000) n; analyze public.messages"
    )
    omars = world.one(f"select {column} from public.messages where turn_id = %s limit 1", turn)

    def planned(value):
        query = "explain (format json) select from public.messages where"
        plans = [maya.way.read(f"{query} {column} {sign} %s", value)[0][0] for sign in ("=", "<")]
        return [plan[0]["Plan"]["Plan Rows"] for plan in plans]

    assert planned(omars) == planned(uuid4())
    assert maya.rows("messages") == []


def test_message_is_never_its_own_parent(world):
    maya, prompt = world.person(), uuid4()

    with pytest.raises(Refused, match="messages_check"):
        maya.begin(maya.create_conversation(), prompt=prompt, parent=prompt)
