"""What holds for all that is there, and all that will be: read from the catalogue of the running stack.

After a start of the embedded API and its first request, because that is when it opens what it can open.
"""

import json

import pglast
import pytest

OURS = "('public', 'private')"


@pytest.fixture(scope="module")
def catalogue(stack):
    with stack.connect() as connection:
        yield connection


def found(catalogue, query):
    return catalogue.execute(query).fetchall()


def test_the_api_has_opened_what_it_can_open(catalogue):
    """If it no longer does, that is good news: what ground.sql has against it can go."""
    opened = found(
        catalogue,
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        " and has_table_privilege('anon', oid, 'delete')",
    )

    assert opened[0][0] > 0


def test_every_table_of_public_has_row_level_security_and_none_of_private(catalogue):
    tables = found(
        catalogue,
        "select relnamespace::regnamespace::text, relname, relrowsecurity from pg_class"
        f" where relkind in ('r', 'p') and relnamespace::regnamespace::text in {OURS}",
    )

    assert len(tables) > 15
    assert [t for t in tables if t[2] != (t[0] == "public")] == []


def test_policies_only_read_and_ask_who_is_asking(catalogue):
    policies = found(
        catalogue,
        "select tablename, cmd, permissive, roles::text[], qual from pg_policies where schemaname = 'public'",
    )
    tables = found(catalogue, "select tablename from pg_tables where schemaname = 'public'")

    assert sorted((p[0],) for p in policies) == sorted(tables)
    for table, command, permissive, roles, condition in policies:
        assert (command, permissive, roles) == ("SELECT", "PERMISSIVE", ["authenticated"]), table
        assert condition == "(user_id = ( SELECT private.me() AS me))", table
    assert found(catalogue, "select * from pg_policies where schemaname = 'private'") == []


def test_nobody_but_the_owner_has_a_grant_on_a_table_of_private(catalogue):
    grants = found(
        catalogue,
        "select oid::regclass, grantee::regrole, privilege_type"
        " from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))"
        " where relnamespace = 'private'::regnamespace and relkind in ('r', 'S', 'v', 'm')"
        " and grantee <> relowner",
    )

    assert grants == []


def test_only_private_functions_act_for_their_owner_and_all_fix_their_search_path(catalogue):
    functions = found(
        catalogue,
        "select pronamespace::regnamespace::text, proname, prosecdef, proconfig from pg_proc"
        f" where pronamespace::regnamespace::text in {OURS}",
    )

    assert len(functions) > 60
    assert [f for f in functions if f[0] == "public" and f[2]] == []
    set_more = [f for f in functions if f[3] != ['search_path=""']]
    assert set_more == [("private", "lock_if_free", True, ['search_path=""', "lock_timeout=20ms"])]


def test_every_function_of_the_api_hands_on_to_a_guarded_one_of_its_name(catalogue):
    unguarded = found(
        catalogue,
        """
        select proname from pg_proc outer_one where pronamespace = 'public'::regnamespace and not exists (
          select from pg_proc where pronamespace = 'private'::regnamespace
            and proname = outer_one.proname and proargtypes = outer_one.proargtypes
            and prosecdef = (proname <> 'read_conversation')  -- which reads what its caller may
            and proargnames is not distinct from outer_one.proargnames
            and prosrc ~ (case when 'proof' = any (proargnames)
              then 'private.(require_proof|require_server_proof|require_admin|check_proof)' else 'private.require_me' end)
        )
        """,
    )

    assert unguarded == []


def test_functions_are_called_by_people_or_by_the_app_and_by_nobody_else(catalogue):
    grants = found(
        catalogue,
        "select pronamespace::regnamespace::text, proname, grantee::regrole::text,"
        " 'made_at' = any (proargnames) is true"
        " from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
        f" where pronamespace::regnamespace::text in {OURS} and grantee <> proowner",
    )
    exposed = {(name,) for schema, name, *_ in grants if schema == "public"}

    # grantee "-" would be PUBLIC
    assert {g for g in grants if g[2] not in ("anon", "authenticated")} == set()
    assert {g for g in grants if (g[2] == "anon") != g[3]} == set()
    # in private: the guarded twin of each, and what the policies and `read_conversation` ask
    inner = {(name,) for schema, name, *_ in grants if schema == "private"}
    assert inner == exposed | {("me",), ("require_me",)}


def test_nothing_is_granted_to_everybody_and_private_is_only_to_be_passed_through(catalogue):
    to_everybody = found(
        catalogue,
        "select oid::regclass, privilege_type"
        " from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))"
        f" where relnamespace::regnamespace::text in {OURS} and relkind in ('r', 'S', 'v', 'm') and grantee = 0",
    )
    on_schema = found(
        catalogue,
        "select grantee::regrole::text, privilege_type from pg_namespace, aclexplode(nspacl)"
        " where nspname = 'private' and grantee <> nspowner order by 1",
    )

    assert to_everybody == []
    assert on_schema == [("anon", "USAGE"), ("authenticated", "USAGE")]


def test_what_our_own_migrations_grant_is_reading_alone(world):
    """Without the embedded API, as on a hosted project: nothing to anon, nothing to service_role."""
    grants = found(
        world.admin,
        "select oid::regclass::text, grantee::regrole::text, privilege_type"
        " from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))"
        f" where relnamespace::regnamespace::text in {OURS} and relkind in ('r', 'S', 'v', 'm')"
        " and grantee <> relowner",
    )
    tables = found(
        world.admin, "select 'public.' || tablename from pg_tables where schemaname = 'public'"
    )

    with_schema = {(t if "." in t else f"public.{t}", who, what) for t, who, what in grants}
    assert with_schema == {(table, "authenticated", "SELECT") for (table,) in tables}


def test_every_update_and_delete_in_a_function_has_a_where(world):
    """Hosted Supabase loads `safeupdate`, which refuses the others, also inside functions."""
    functions = found(
        world.admin,
        "select proname, lanname, prosrc, pg_get_functiondef(pg_proc.oid)"
        " from pg_proc join pg_language on pg_language.oid = prolang"
        f" where pronamespace::regnamespace::text in {OURS}",
    )

    assert {function[1] for function in functions} == {"plpgsql", "sql"}
    assert [name for name, *function in functions if is_unsafe(*function)] == []


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("plpgsql", "begin update notes set a = 1; end"),
        ("plpgsql", "begin with gone as (delete from notes returning a) select 1 from gone; end"),
        ("plpgsql", "declare c refcursor; begin open c for execute 'delete from notes'; end"),
        ("plpgsql", "begin execute 'delete from notes'; end"),
        ("plpgsql", "begin return query execute 'delete from notes returning a'; end"),
        (
            "plpgsql",
            "declare i integer; begin for i in execute 'delete from notes' loop end loop; end",
        ),
        ("sql", "select 1; delete from notes"),
    ],
)
def test_what_safeupdate_would_refuse_is_found(language, body):
    head = "create function f() returns setof integer language"

    assert is_unsafe(language, body, f"{head} {language} as $${body}$$")


def is_unsafe(language, body, definition):
    """Return whether a function has an UPDATE or DELETE without WHERE, or SQL that is made as it runs."""
    if language == "sql":  # a body in quotes, or one that Postgres has parsed
        return changes_all_rows(body) or changes_all_rows(definition)
    # pglast knows no types, and so no array that could be variadic; nor another schema
    definition = definition.replace("VARIADIC ", "").replace("private.", "public.")
    parts = nodes(pglast.parse_plpgsql(definition))
    return any(
        "dyn" in kind
        or (kind == "PLpgSQL_expr" and part["parseMode"] == 0 and changes_all_rows(part["query"]))
        for kind, part in parts
    )


def changes_all_rows(sql):
    return any(
        kind in ("UpdateStmt", "DeleteStmt") and "whereClause" not in statement
        for kind, statement in nodes(json.loads(pglast.parser.parse_sql_json(sql)))
    )


def nodes(tree):
    """Each key of a JSON *tree* with its value."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield str(key), value
            yield from nodes(value)


def test_every_foreign_key_has_an_index_that_begins_with_its_columns(catalogue):
    """Apart from the column user_id, which follows from the others."""
    bare = found(
        catalogue,
        """
        select conrelid::regclass, conname
        from pg_constraint cross join lateral (
          select array_agg(attnum) as columns from pg_attribute
          where attrelid = conrelid and attnum = any (conkey) and (attname <> 'user_id' or cardinality(conkey) = 1)
        ) needed
        where contype = 'f' and connamespace::regnamespace::text in ('public', 'private') and not exists (
          select from pg_index
          where indrelid = conrelid and indpred is null
            and (indkey::smallint[])[0:cardinality(columns) - 1] @> columns
        )
        """,
    )

    assert bare == []


def test_only_profiles_point_at_the_accounts(catalogue):
    """Deleting an account would deadlock with a turn that just begins, if others did."""
    pointing = found(
        catalogue,
        "select conrelid::regclass::text, confdeltype from pg_constraint"
        f" where confrelid = 'auth.users'::regclass and connamespace::regnamespace::text in {OURS}",
    )

    assert pointing == [("profiles", "c")]


def test_encrypted_columns_have_a_type_that_takes_nothing_readable(catalogue):
    """Text that is not sealed is an id, a hash, or one of a few words, and a check says so."""
    unchecked = found(
        catalogue,
        """
        select attrelid::regclass::text, attname from pg_attribute join pg_class on pg_class.oid = attrelid
        where relkind = 'r' and relnamespace = 'public'::regnamespace and attnum > 0 and not attisdropped
          and atttypid in ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'json'::regtype)
          and not exists (
            select from pg_constraint where conrelid = attrelid and contype = 'c' and attnum = any (conkey)
          )
        """,
    )

    assert unchecked == []


def test_planner_has_no_statistics_of_ids(catalogue):
    """The API hands out estimates, which row level security does not bind: tests/security/test_database.py."""
    with_statistics = found(
        catalogue,
        "select attrelid::regclass::text, attname from pg_attribute join pg_class on pg_class.oid = attrelid"
        " where relkind = 'r' and relnamespace = 'public'::regnamespace and attnum > 0 and not attisdropped"
        " and atttypid = 'uuid'::regtype and attstattarget is distinct from 0",
    )

    assert with_statistics == []


def test_the_functions_and_types_belong_to_an_owner_who_is_no_superuser(catalogue):
    owners = found(
        catalogue,
        "select distinct rolname, rolsuper, rolbypassrls from pg_proc join pg_roles on pg_roles.oid = proowner"
        f" where pronamespace::regnamespace::text in {OURS}",
    )

    assert owners == [("daybook_owner", False, True)]
