"""Rules for all tables and functions, present and future, read from the catalogue of the running stack.

The tests run after a start of the embedded API and its first request, because the API changes grants then.
"""

import json
import re

import pglast
import pytest

from tests import api_list

OURS = "('public', 'private')"


@pytest.fixture(scope="module")
def catalogue(stack):
    with stack.connect() as connection:
        yield connection


def found(catalogue, query):
    return catalogue.execute(query).fetchall()


COLUMNS = """
  pg_attribute join pg_class on pg_class.oid = attrelid
  where relkind = 'r' and relnamespace = 'public'::regnamespace and attnum > 0 and not attisdropped
"""


@pytest.mark.parametrize(
    "query",
    [
        """
        select oid::regclass, grantee::regrole, privilege_type
        from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
        where relnamespace = 'private'::regnamespace and relkind in ('r', 'S', 'v', 'm') and grantee <> relowner
        """,
        # the column user_id is ignored, because the other columns determine it
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
        # a column with text that is not sealed (an id, a hash, or one of a few words) must have a
        # check
        f"""
        select attrelid::regclass::text, attname from {COLUMNS}
          and atttypid in ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'json'::regtype)
          and not exists (
            select from pg_constraint where conrelid = attrelid and contype = 'c' and attnum = any (conkey)
          )
        """,
        # the API returns estimates, which row level security does not restrict:
        # tests/security/test_database.py
        f"""
        select attrelid::regclass::text, attname from {COLUMNS}
          and atttypid = 'uuid'::regtype and attstattarget is distinct from 0
        """,
    ],
    ids=["grant on private", "key without index", "unchecked text", "statistics of ids"],
)
def test_schema_has_no(catalogue, query):
    assert found(catalogue, query) == []


def test_embedded_api_grants_all_on_exposed_tables(catalogue):
    """If this test fails, a newer API no longer grants these rights, and the protection in ground.sql can be removed."""
    opened = found(
        catalogue,
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        " and has_table_privilege('anon', oid, 'delete')",
    )

    assert opened[0][0] > 0


def test_exactly_tables_of_public_have_row_level_security(catalogue):
    tables = found(
        catalogue,
        "select relnamespace::regnamespace::text, relname, relrowsecurity from pg_class"
        f" where relkind in ('r', 'p') and relnamespace::regnamespace::text in {OURS}",
    )

    assert len(tables) > 15
    assert [t for t in tables if t[2] != (t[0] == "public")] == []


def test_policies_allow_reading_own_rows_alone(catalogue):
    query = "select tablename, cmd, permissive, roles::text[], qual from pg_policies where schemaname = 'public'"
    policies = found(catalogue, query)
    tables = found(catalogue, "select tablename from pg_tables where schemaname = 'public'")

    assert sorted((p[0],) for p in policies) == sorted(tables)
    for table, command, permissive, roles, condition in policies:
        assert (command, permissive, roles) == ("SELECT", "PERMISSIVE", ["authenticated"]), table
        assert condition == "(user_id = ( SELECT private.me() AS me))", table
    assert found(catalogue, "select * from pg_policies where schemaname = 'private'") == []


def test_definers_are_private_and_search_paths_fixed(catalogue):
    functions = found(
        catalogue,
        "select pronamespace::regnamespace::text, proname, prosecdef, proconfig from pg_proc"
        f" where pronamespace::regnamespace::text in {OURS}",
    )

    assert len(functions) > 60
    assert [f for f in functions if f[0] == "public" and f[2]] == []
    set_more = [f for f in functions if f[3] != ['search_path=""']]
    assert [(name, *more) for _, name, _, more in set_more] == [
        ("lock_if_free", "lock_timeout=20ms", 'search_path=""'),
        ("usage_of", "plan_cache_mode=force_custom_plan", 'search_path=""'),
    ]


def test_each_api_function_calls_a_guarded_private_one(catalogue):
    """Except `read_conversation`, which runs as its caller: policies guard the rows that it reads."""
    unguarded = found(
        catalogue,
        """
        select proname from pg_proc outer_one where pronamespace = 'public'::regnamespace and not exists (
          select from pg_proc where pronamespace = 'private'::regnamespace and prosecdef
            and (proname = 'checked_' || outer_one.proname
              or proname = outer_one.proname and proname in ('my_account', 'my_audit', 'my_data', 'my_ledger', 'my_sessions', 'my_usage', 'poll',
                'start_session'))
            and proargtypes = outer_one.proargtypes and proargnames is not distinct from outer_one.proargnames
            and prosrc ~ (case when 'proof' = any (proargnames)
              then 'private.(require_proof|require_server_proof|check_proof)' else 'private.require_me' end)
        )
        """,
    )

    assert unguarded == [("read_conversation",)]


def test_committed_list_names_each_api_function(world):
    assert api_list.LIST.read_text() == api_list.list_of(world.admin)


def test_functions_are_granted_to_one_api_role(catalogue):
    grants = found(
        catalogue,
        "select pronamespace::regnamespace::text, proname, grantee::regrole::text,"
        " 'made_at' = any (proargnames) is true"
        " from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
        f" where pronamespace::regnamespace::text in {OURS} and grantee <> proowner",
    )
    exposed = {(name,) for schema, name, *_ in grants if schema == "public"}

    # the grantee "-" would be PUBLIC
    assert {g for g in grants if g[2] not in ("anon", "authenticated")} == set()
    assert {g for g in grants if (g[2] == "anon") != g[3]} == set()
    # in private: the guarded version of each function, and the functions that policies and
    # `read_conversation` call
    inner = {(name.removeprefix("checked_"),) for schema, name, *_ in grants if schema == "private"}
    assert inner == exposed - {("read_conversation",)} | {("me",), ("require_me",)}


def test_nothing_is_granted_to_public(catalogue):
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


def test_migrations_grant_reading_alone(world):
    """On a database without the embedded API, as on a hosted project, anon and service_role have no grants."""
    grants = found(
        world.admin,
        "select oid::regclass::text, grantee::regrole::text, privilege_type"
        " from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))"
        f" where relnamespace::regnamespace::text in {OURS} and relkind in ('r', 'S', 'v', 'm')"
        " and grantee <> relowner",
    )
    query = "select 'public.' || tablename from pg_tables where schemaname = 'public'"
    tables = found(world.admin, query)

    with_schema = {(t if "." in t else f"public.{t}", who, what) for t, who, what in grants}
    assert with_schema == {(table, "authenticated", "SELECT") for (table,) in tables}


def test_updates_and_deletes_in_functions_have_where(world):
    """Hosted Supabase loads `safeupdate`, which refuses statements without WHERE, also inside functions."""
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
        ("plpgsql", "declare i int; begin for i in execute 'delete from notes' loop end loop; end"),
        ("sql", "select 1; delete from notes"),
    ],
)
def test_statement_that_safeupdate_refuses_is_found(language, body):
    head = "create function f() returns setof integer language"

    assert is_unsafe(language, body, f"{head} {language} as $${body}$$")


def is_unsafe(language, body, definition):
    """Return True if a function has an UPDATE or DELETE without WHERE, or SQL that is built at run time."""
    if language == "sql":  # the body is a string, or was parsed by Postgres
        return changes_all_rows(body) or changes_all_rows(definition)
    # pglast cannot resolve types, so it knows neither variadic arrays nor another schema
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
    """Yield each key of a JSON *tree* with its value."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield str(key), value
            yield from nodes(value)


def test_no_function_waits_for_a_second_budget_after_the_deployment(world):
    """Who locks budgets one by one comes to a locked deployment at a month's end, and another turn waits the other way."""
    functions = found(
        world.admin,
        f"select proname, prosrc from pg_proc where pronamespace::regnamespace::text in {OURS}",
    )

    assert [name for name, body in functions if locks_budgets_one_by_one(body)] == []


@pytest.mark.parametrize(
    "body",
    [
        "select private.lock_budget(user_id) from private.budgets",
        "for person in select 1 loop perform private.lock_budget(person); end loop;",
        "perform private.lock_deployment(); perform from private.budgets order by 1 for no key update;",
    ],
)
def test_budgets_that_are_locked_one_by_one_are_found(body):
    assert locks_budgets_one_by_one(body)


def locks_budgets_one_by_one(body):
    """Return True if a function waits for several budgets, and locks the deployment with one of them or before them."""
    body = re.sub(r"--[^\n]*", "", body)
    every = r"from private\.budgets\b(?![^;]*\bwhere user_id =)"
    waits = re.search(
        rf"lock_deployment\(.*{every}[^;]*for no key update(?! skip locked)", body, re.S
    )
    loops = re.findall(r"\bloop\b(.*?)\bend loop\b", body, re.S)
    is_in_loop = any("lock_budget(" in loop and "lock_if_free(" not in loop for loop in loops)
    return bool(waits or is_in_loop or re.search(rf"lock_budget\([^)]*\)\s*{every}", body))


def test_only_roles_reference_auth_users(catalogue):
    """Another reference would cause a deadlock between the deletion of an account and a turn that just begins."""
    pointing = found(
        catalogue,
        "select conrelid::regclass::text, confdeltype from pg_constraint"
        f" where confrelid = 'auth.users'::regclass and connamespace::regnamespace::text in {OURS}",
    )

    assert pointing == [("private.roles", "c")]


def test_owner_of_functions_is_no_superuser(catalogue):
    owners = found(
        catalogue,
        "select distinct rolname, rolsuper, rolbypassrls from pg_proc join pg_roles on pg_roles.oid = proowner"
        f" where pronamespace::regnamespace::text in {OURS}",
    )

    assert owners == [("daybook_owner", False, True)]
