"""What the database itself keeps from people who hold a valid access token."""

import json

from tests.database.people import SIGNED_OUT, Sql, World


def test_access_token_from_before_a_suspension_stays_worthless(world: World) -> None:
    admin, omar = world.make_admin(world.person()), world.person()
    omar.create_conversation()
    for suspended in (True, False):
        assert admin.call("suspend", person=omar.id, suspended=suspended) == {"ok": True}
        assert omar.refusal("my_account") == SIGNED_OUT

    assert isinstance(omar.way, Sql)
    session = json.loads(omar.way.claims)["session_id"]
    world.admin.execute(
        "insert into auth.sessions (id, user_id) values (%s, %s)", [session, omar.id]
    )

    assert len(omar.rows("conversations")) == 1  # who signs in again finds everything
