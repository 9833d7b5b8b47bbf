"""One-line breakages, each with the test that must notice: `python -m tests.mutants [WORD …]`.

Run by hand, before a release and after a change of what a mutant touches. Each breakage is made in
a copy of the tree; a test that passes all the same is a hole. All the words given choose mutants, by file and test.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LEFT_BEHIND = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "screenshots"
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """In *file*, *old* (which stands there once) becomes *new*; *test* must then fail."""

    file: str
    old: str
    new: str
    test: str

    def apply(self, tree: Path) -> str:
        """Break the tree; return the file's text as it was."""
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.file}: {text.count(self.old)} times, not once: {self.old!r}")
        path.write_text(text.replace(self.old, self.new))
        return text


MUTANTS = (
    # the database
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "  model text check (model ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}$'),",
        "  model text,",
        "tests/database/test_choices.py::test_what_no_model_can_be_called_is_refused[a model]",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "      perform private.lapse_turn(turn);\n    end loop;\n    select",
        "      null;\n    end loop;\n    select",
        "tests/database/test_accounts.py::test_a_deleted_account_leaves_nothing_but_the_books",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "alter table public.messages enable row level security;",
        "",
        "tests/database/test_isolation.py::test_everybody_reads_their_own_rows_and_nobody_elses[postgres]",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        'create policy "owners read their messages" on public.messages\n  for select to authenticated using (user_id = (select private.me()));',
        'create policy "owners read their messages" on public.messages\n  for select to authenticated using ((select private.me()) is not null);',
        "tests/database/test_isolation.py::test_everybody_reads_their_own_rows_and_nobody_elses[postgres]",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        'create policy "owners read their conversations" on public.conversations\n  for select to',
        'create policy "owners read their conversations" on public.conversations\n  for all to',
        "tests/database/test_catalogue.py::test_policies_only_read_and_ask_who_is_asking",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        'create policy "owners read their conversations" on public.conversations\n  for select to authenticated using',
        'grant all on public.conversations to authenticated; create policy "owners read their conversations" on public.conversations\n  for all to authenticated using',
        "tests/database/test_isolation.py::test_nobody_writes_a_table_directly[postgres]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "if private.proof_holds(claim, proof) is not true then",
        "if false then",
        "tests/database/test_isolation.py::test_without_a_proof_a_token_alone_changes_nothing[postgres]",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        'create policy "owners read their messages" on public.messages\n  for select to authenticated using (user_id = (select private.me()));',
        'create policy "owners read their messages" on public.messages\n  for select to authenticated using (user_id = (select auth.uid()));',
        "tests/database/test_isolation.py::test_a_token_is_worth_nothing_from_the_next_statement[postgres-signed out]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "    from auth.sessions session\n    join private.roles account on account.user_id = session.user_id and account.suspended_at is null\n    where session.id = (claims ->> 'session_id')::uuid\n      and session.user_id = (claims ->> 'sub')::uuid\n      and (session.not_after is null or session.not_after > now())",
        "    from private.roles session\n    where session.user_id = (claims ->> 'sub')::uuid and session.suspended_at is null",
        "tests/database/test_isolation.py::test_a_token_is_worth_nothing_from_the_next_statement[postgres-signed out]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        " and account.suspended_at is null\n",
        "\n",
        "tests/database/test_isolation.py::test_a_token_is_worth_nothing_from_the_next_statement[postgres-suspended]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "> 60 then",
        "> 600 then",
        "tests/database/test_isolation.py::test_a_proof_of_the_app_is_good_for_a_minute[postgres]",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "select * into budget from private.budgets where user_id = person for no key update;",
        "select * into budget from private.budgets where user_id = person;",
        "tests/database/test_storm.py::test_a_storm_loses_doubles_and_overspends_nothing",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "select * into budget from private.budgets where user_id = person for no key update;",
        "select * into budget from private.budgets where user_id = person;",
        "tests/database/test_turns.py::test_beginning_twice_at_the_same_moment_begins_one_turn",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "select * into strict deployment from private.deployment for no key update;",
        "select * into strict deployment from private.deployment;",
        "tests/database/test_storm.py::test_a_storm_loses_doubles_and_overspends_nothing",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "room_today := budget.daily_cap_micro - budget.day_spent - budget.reserved;",
        "room_today := budget.daily_cap_micro - budget.day_spent;",
        "tests/database/test_turns.py::test_what_is_reserved_counts_against_the_caps",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "room_today := budget.daily_cap_micro - budget.day_spent - budget.reserved;",
        "room_today := budget.daily_cap_micro - budget.reserved;",
        "tests/database/test_turns.py::test_what_was_spent_counts_against_the_caps",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "room := greatest(0, coalesce(deployment.monthly_cap_micro, 4000000000000000000) - deployment.lent);",
        "room := 4000000000000000000;",
        "tests/database/test_turns.py::test_everybody_together_stays_below_the_deployments_cap",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "      -- It holds several budgets, so it waits for none: a person at work settles their own lapsed turns.\n      continue when not private.lock_if_free(person);\n      perform private.lock_budget(person);\n",
        "      perform from public.turns where user_id = person and state in ('reserved', 'streaming')\n        and lease_until < clock_timestamp() for update;\n      perform private.lock_budget(person);\n",
        "tests/database/test_storm.py::test_a_storm_loses_doubles_and_overspends_nothing",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "for no key update skip locked;\n  return found;\nexception when lock_not_available then\n  return false;\n",
        "for no key update;\n  return found;\n",
        "tests/database/test_turns.py::test_a_sweep_waits_for_nobody",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        " set lock_timeout = '20ms'",
        "",
        "tests/database/test_turns.py::test_a_budget_that_cannot_be_skipped_is_not_waited_for_either",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "        order by id for update skip locked -- locked: its finish or its heartbeat is on the way",
        "        order by id for update",
        "tests/database/test_turns.py::test_a_sweep_leaves_a_turn_whose_heartbeat_is_on_the_way",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "where user_id = person and client_turn_id = client_turn;",
        "where false;",
        "tests/database/test_turns.py::test_beginning_twice_begins_one_turn",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "if turn.request_hash <> request then",
        "if false then",
        "tests/database/test_turns.py::test_beginning_twice_begins_one_turn",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "if ending.state in ('complete', 'stopped', 'failed', 'interrupted') then",
        "if ending.state in ('stopped', 'failed', 'interrupted') then",
        "tests/database/test_turns.py::test_finishing_twice_charges_once",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    when is_reply and thread.rev is distinct from expected_rev then 'stale'\n",
        "",
        "tests/database/test_turns.py::test_a_conversation_that_went_on_elsewhere_is_stale",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "if thread.rev is distinct from expected_rev then",
        "if false then",
        "tests/database/test_turns.py::test_a_stale_finish_changes_nothing_and_can_be_made_again",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    ) then 'busy'",
        "    ) then null",
        "tests/database/test_turns.py::test_two_replies_of_one_conversation_never_come_at_once",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    when is_reply and new_start_seq not between thread.reset_seq and thread.last_seq then 'stale'\n",
        "",
        "tests/database/test_turns.py::test_a_plan_from_before_a_reset_is_stale",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "start_seq = greatest(start_seq, new_start_seq), updated_at",
        "start_seq = coalesce(new_start_seq, start_seq), updated_at",
        "tests/database/test_turns.py::test_the_planned_start_is_stored_with_the_prompt_and_never_goes_back",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "case turn.state when 'streaming' then turn.reserved_micro else 0 end;",
        "0;",
        "tests/database/test_turns.py::test_a_turn_that_called_the_model_lapses_at_its_reservation",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "case turn.state when 'streaming' then turn.reserved_micro else 0 end;",
        "turn.reserved_micro;",
        "tests/database/test_turns.py::test_a_turn_that_never_called_the_model_lapses_for_free",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "  spent := cost_micro - ending.charged_micro;",
        "  spent := cost_micro;",
        "tests/database/test_turns.py::test_a_late_finish_pays_back_what_was_charged_too_much",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "      when spent < 0 and (charged_at at time zone 'utc')::date < day then 0 else spent end),",
        "      when false then 0 else spent end),",
        "tests/database/test_turns.py::test_a_correction_touches_only_the_windows_that_counted_the_charge",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "  perform private.owe(budget, spent - held);\n",
        "",
        "tests/database/test_turns.py::test_more_than_was_reserved_is_charged_noted_and_owed",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    update private.deployment set lent = lent + budget.reserved where id;\n",
        "",
        "tests/database/test_turns.py::test_a_turn_open_across_the_months_end_is_paid_in_the_new_one",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "select * into ending from public.turns where id = turn and user_id = person;",
        "select * into ending from public.turns where id = turn;",
        "tests/database/test_isolation.py::test_no_function_touches_another_persons_rows_even_with_a_proof[postgres]",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "  where id = turn and user_id = person and state in ('reserved', 'streaming');",
        "  where id = turn and state in ('reserved', 'streaming');",
        "tests/database/test_isolation.py::test_no_function_touches_another_persons_rows_even_with_a_proof[postgres]",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "delete from public.conversations where id = conversation and user_id = person;",
        "delete from public.conversations where id = conversation;",
        "tests/database/test_isolation.py::test_no_function_touches_another_persons_rows_even_with_a_proof[postgres]",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "create trigger ledger_is_append_only before update or delete on private.ledger\n  for each row execute function private.append_only();\n",
        "",
        "tests/database/test_accounts.py::test_nobody_rewrites_the_books[update {} set at = now()-private.ledger]",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "create trigger messages_are_never_truncated before truncate on public.messages\n  for each statement execute function private.no_truncate();\n",
        "",
        "tests/database/test_accounts.py::test_no_table_with_peoples_rows_is_truncated",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "value ~ '^p[1-9]\\.[1-9][0-9]{0,8}\\.[A-Za-z0-9_-]{75,}$' and",
        "",
        "tests/database/test_accounts.py::test_not_even_the_owner_stores_readable_text[messages]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "value ~ '^p[1-9]\\.[1-9][0-9]{0,8}\\.[A-Za-z0-9_-]{75,}$' and",
        "",
        "tests/database/test_isolation.py::test_readable_text_is_refused_wherever_sealed_text_belongs_and_not_repeated[postgres]",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "if not exists (select from private.roles where user_id = person and role = 'admin') then",
        "if false then",
        "tests/database/test_isolation.py::test_only_admins_administer[postgres]",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  if last_one and new_role is distinct from 'admin' then",
        "  if false then",
        "tests/database/test_accounts.py::test_the_last_admin_stays",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  perform from private.roles where role = 'admin' order by user_id for no key update;\n",
        "",
        "tests/database/test_accounts.py::test_two_admins_who_remove_each_other_at_once_leave_one",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "    perform pg_advisory_xact_lock(hashtext('daybook: first account'));\n",
        "",
        "tests/database/test_accounts.py::test_the_first_of_all_accounts_is_an_admin_only_where_the_settings_say_so",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "if (select first_account_is_admin from private.settings) then",
        "if true then",
        "tests/database/test_accounts.py::test_an_account_begins_as_a_user_with_the_caps_of_the_settings",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    perform from public.conversations where user_id = old.id order by id for update;\n",
        "",
        "tests/database/test_accounts.py::test_accounts_are_deleted_under_load_without_a_deadlock",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  perform from auth.users where id = person for update;   -- first, as any other way of deleting them does\n",
        "",
        "tests/database/test_accounts.py::test_an_admin_who_leaves_while_somebody_deletes_the_account_is_no_deadlock",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  if not found then\n    raise exception 'not allowed' using errcode = '42501';\n  end if;\n  insert into private.throttles",
        "  insert into private.throttles",
        "tests/database/test_sessions.py::test_an_attempt_is_counted_once_for_each_proof",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "jsonb_build_object('ok', counter.attempts <= at_most,",
        "jsonb_build_object('ok', true,",
        "tests/database/test_sessions.py::test_a_throttle_closes_for_its_window_and_for_its_bucket",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        '  elsif session.refreshing_until > clock_timestamp() then\n    return \'{"ok": false, "reason": "held"}\';\n',
        "",
        "tests/database/test_sessions.py::test_one_of_eight_refreshes",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "select * into session from private.app_sessions where cookie_hash = cookie for no key update;",
        "select * into session from private.app_sessions where cookie_hash = cookie;",
        "tests/database/test_sessions.py::test_one_of_eight_refreshes",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  where cookie_hash = cookie and generation = seen_generation;",
        "  where cookie_hash = cookie;",
        "tests/database/test_sessions.py::test_the_late_are_told_that_the_token_moved",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "  delete from auth.sessions where id = ended.auth_session_id and user_id = ended.user_id;\n",
        "",
        "tests/database/test_sessions.py::test_signing_out_ends_the_token_too",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        " and seen_at + make_interval(secs => idle_seconds) > now()\n    and exists",
        "\n    and exists",
        "tests/database/test_sessions.py::test_a_session_ends_when_idle_and_when_old[seen_at-3601]",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "    where user_id = person\n      and case when one_session",
        "    where true\n      and case when one_session",
        "tests/database/test_sessions.py::test_people_see_and_end_their_own_devices",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "alter table public.receipts enable row level security;",
        "alter table public.receipts enable row level security; alter table private.prices enable row level security;",
        "tests/database/test_catalogue.py::test_nobody_but_the_owner_has_a_grant_on_a_table_of_private",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "create function public.my_account()\nreturns jsonb language sql stable set",
        "create function public.my_account()\nreturns jsonb language sql stable security definer set",
        "tests/database/test_catalogue.py::test_only_private_functions_act_for_their_owner_and_all_fix_their_search_path",
    ),
    Mutant(
        "db/migrations/20261121090000_ground.sql",
        "create function private.require_me() returns uuid\nlanguage plpgsql stable security definer set search_path = ''",
        "create function private.require_me() returns uuid\nlanguage plpgsql stable security definer",
        "tests/database/test_catalogue.py::test_only_private_functions_act_for_their_owner_and_all_fix_their_search_path",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "create index on public.receipts (conversation_id, user_id);\n",
        "",
        "tests/database/test_catalogue.py::test_every_foreign_key_has_an_index_that_begins_with_its_columns",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "grant execute on function public.sweep_turns, private.sweep_turns to anon;",
        "grant execute on function public.sweep_turns, private.sweep_turns, public.begin_turn to anon;",
        "tests/database/test_catalogue.py::test_functions_are_called_by_people_or_by_the_app_and_by_nobody_else",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "  for each row when (new.conversation_id is null) execute",
        "  for each row when (false) execute",
        "tests/database/test_turns.py::test_a_conversation_deleted_in_mid_reply_leaves_the_cost_and_no_text",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    for update skip locked\n  );",
        "    for update\n  );",
        "tests/database/test_turns.py::test_tidying_waits_for_nobody",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "(expires_at < now() or destroy_at < now())",
        "expires_at < now()",
        "tests/database/test_turns.py::test_what_is_discarded_is_destroyed_with_its_key_when_its_time_is_over",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "where id = conversation and user_id = person and destroy_at is not null;",
        "where id = conversation and destroy_at is not null;",
        "tests/database/test_isolation.py::test_no_function_touches_another_persons_rows_even_with_a_proof[postgres]",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "and user_id = person and destroy_at is null for no key update;",
        "and user_id = person for no key update;",
        "tests/database/test_turns.py::test_no_turn_begins_in_what_is_discarded_and_an_open_one_ends_there",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "    perform private.recall_loans(budget.user_id);\n",
        "",
        "tests/database/test_turns.py::test_unused_loans_are_called_back_when_somebody_needs_them",
    ),
    # sealing
    Mutant(
        "services/crypto/vault.py",
        "            place.seq,\n",
        "            0,\n",
        "tests/unit/test_vault.py::test_a_moved_token_does_not_open",
    ),
    Mutant(
        "services/crypto/vault.py",
        "place.column, place.role)",
        "place.column)",
        "tests/unit/test_vault.py::test_a_moved_token_does_not_open",
    ),
    Mutant(
        "services/crypto/vault.py",
        "_NO_ID if parent is None else parent.bytes",
        "_NO_ID",
        "tests/unit/test_vault.py::test_a_moved_token_does_not_open",
    ),
    Mutant(
        "services/crypto/vault.py",
        "            self.version,\n            place.row_id.bytes,",
        "            1,\n            place.row_id.bytes,",
        "tests/unit/test_vault.py::test_a_token_belongs_to_its_key_version",
    ),
    Mutant(
        "services/crypto/vault.py",
        "if not hmac.compare_digest(rest[:_COMMITMENT_BYTES], derived[KEY_BYTES:]):",
        "if False:",
        "tests/unit/test_vault.py::test_the_commitment_is_compared",
    ),
    Mutant(
        "services/crypto/vault.py",
        "return octets if encode_base64url(octets) == text else None",
        "return octets",
        "tests/unit/test_vault.py::test_a_token_has_one_spelling",
    ),
    Mutant(
        "services/crypto/vault.py",
        '.ljust(padded_size(size), b"\\0")',
        "",
        "tests/unit/test_vault.py::test_short_texts_look_alike",
    ),
    Mutant(
        "services/crypto/vault.py",
        "salt = os.urandom(_SALT_BYTES)",
        "salt = bytes(_SALT_BYTES)",
        "tests/unit/test_vault.py::test_no_two_tokens_of_one_text_are_alike",
    ),
    Mutant(
        "services/crypto/vault.py",
        "total = (self.total + int.from_bytes(mac)) % _MODULUS",
        "total = self.total",
        "tests/unit/test_vault.py::test_a_head_notices_what_is_missing_added_swapped_or_replayed",
    ),
    Mutant(
        "services/crypto/vault.py",
        'self._encoded("p1", place) + token.encode(), "sha256"',
        'token.encode(), "sha256"',
        "tests/unit/test_vault.py::test_every_place_has_its_own_row_mac",
    ),
    Mutant(
        "services/crypto/keyring.py",
        'subkey(cookie_secret, "session", salt)',
        'subkey(cookie_secret, "session")',
        "tests/unit/test_keyring.py::test_a_session_needs_its_cookie_and_the_root_key",
    ),
    Mutant(
        "services/crypto/keyring.py",
        "len(set(key)) >= _FEWEST_DISTINCT",
        "True",
        "tests/unit/test_keyring.py::test_fifteen_distinct_bytes_are_too_few_and_sixteen_are_enough",
    ),
    Mutant(
        "services/crypto/proof.py",
        'if any("\\n" in line for line in lines):',
        "if False:",
        "tests/unit/test_proof.py::test_a_line_break_in_a_field_is_refused",
    ),
    Mutant(
        "services/crypto/proof.py",
        'return "true" if field else "false"',
        "return str(field)",
        "tests/unit/test_proof.py::test_claims_and_proofs_are_those_of_postgres",
    ),
    Mutant(
        "services/portable/export.py",
        '    if not _MORE_THAN_PROSE.search(_CODE_BLOCK.sub("", body)):',
        "    if True:",
        "tests/unit/test_portable.py::test_every_body_occurs_verbatim_and_no_heading_is_forged",
    ),
    # what the model sees
    Mutant(
        "services/memory/planner.py",
        "len(pairs) - limit // 2)",
        "len(pairs) - limit // 2 - 1)",
        "tests/unit/test_memory.py::test_a_window_shows_the_last_messages_in_whole_pairs",
    ),
    Mutant(
        "services/memory/layout.py",
        "        and says_something(reply)\n",
        "",
        "tests/unit/test_memory.py::test_a_pair_with_a_bad_half_is_not_planned",
    ),
    Mutant(
        "services/memory/layout.py",
        "message.is_verified and bool(",
        "bool(",
        "tests/unit/test_memory.py::test_a_pair_with_a_bad_half_is_not_planned",
    ),
    Mutant(
        "services/memory/layout.py",
        "if prompt.seq > after",
        "if reply.seq > after",
        "tests/unit/test_memory.py::test_a_view_begins_where_it_was_stored",
    ),
    Mutant(
        "services/memory/planner.py",
        "max(history.start_seq, history.reset_seq)",
        "history.start_seq",
        "tests/unit/test_memory.py::test_nothing_from_before_the_reset_is_seen_or_called_omitted",
    ),
    Mutant(
        "services/memory/planner.py",
        "room * _TRIM_TO_PERCENT // 100",
        "room",
        "tests/unit/test_memory.py::test_an_overflow_trims_to_two_thirds_and_that_lasts",
    ),
    Mutant(
        "services/memory/planner.py",
        "if tokens > room:",
        "if tokens > room + 50:",
        "tests/unit/test_memory.py::test_full_refuses_before_it_would_overflow",
    ),
    Mutant(
        "services/memory/planner.py",
        "whole if whole.tokens(counter) <= room else bare",
        "whole",
        "tests/unit/test_memory.py::test_a_prompt_is_not_refused_for_the_facts",
    ),
    Mutant(
        "services/memory/planner.py",
        "if fact.source_id in shown",
        "if fact.source_id is None",
        "tests/unit/test_memory.py::test_a_fact_waits_while_the_message_it_was_noted_from_is_in_view",
    ),
    Mutant(
        "services/memory/planner.py",
        "history.reset_seq < summary.from_seq <=",
        "history.reset_seq <= summary.up_to_seq and summary.from_seq <=",
        "tests/unit/test_memory_summary.py::test_a_summary_of_what_was_said_before_the_reset_is_not_shown",
    ),
    Mutant(
        "services/memory/planner.py",
        "and any(message.seq == summary.up_to_seq for message in history.past)",
        "",
        "tests/unit/test_memory_summary.py::test_without_a_summary_of_this_branch_the_view_is_a_window",
    ),
    Mutant(
        "services/memory/blocks.py",
        'text.splitlines() or [""]',
        'text.split("\\n")',
        "tests/unit/test_memory.py::test_a_line_ends_wherever_a_reader_may_see_it_end",
    ),
    Mutant(
        "services/memory/blocks.py",
        '("> " + line for line in more)',
        "more",
        "tests/unit/test_memory_summary.py::test_no_message_ends_the_block_that_asks_for_its_summary",
    ),
    Mutant(
        "services/memory/epochs.py",
        "each.message.id not in not_these and says_something(each.message)",
        "says_something(each.message)",
        "tests/unit/test_memory_epochs.py::test_what_is_in_view_is_not_recalled",
    ),
    Mutant(
        "services/memory/epochs.py",
        "{message.id for message in history.past if message.seq <= history.reset_seq}",
        "set()",
        "tests/unit/test_memory_epochs.py::test_nothing_from_before_the_reset_is_recalled",
    ),
    Mutant(
        "services/memory/epochs.py",
        "        if pair.prompt.seq > history.epoch_seq:\n",
        "        if True:\n",
        "tests/unit/test_memory_epochs.py::test_a_later_turn_appends_and_adds_a_little",
    ),
    Mutant(
        "services/memory/compaction.py",
        "return len(view.pairs) - max(1, how_many_fit(view.pairs, left, counter))",
        "return len(view.pairs) - 1",
        "tests/unit/test_memory_summary.py::test_what_overflows_is_folded_so_that_two_thirds_stay",
    ),
    Mutant(
        "services/memory/compaction.py",
        "None if is_cut else clean_summary",
        "clean_summary",
        "tests/unit/test_memory_summary.py::test_a_summary_that_reached_its_limit_is_refused",
    ),
    Mutant(
        "services/memory/compaction.py",
        "and call.tokens(counter) <= room_of_call",
        "",
        "tests/unit/test_memory_summary.py::test_a_request_that_would_not_fit_in_place_is_sent_apart",
    ),
    Mutant(
        "services/memory/tokens.py",
        "return _longest_size(text) + _LEADING_BLANK",
        "return len(text) // 4",
        "tests/unit/test_memory_tokens.py::test_a_bound_is_never_too_low",
    ),
    Mutant(
        "services/memory/tokens.py",
        'for form in ("NFC", "NFKC")',
        'for form in ("NFKC",)',
        "tests/unit/test_memory_tokens.py::test_a_bound_holds_whichever_way_a_tokenizer_normalises",
    ),
    Mutant(
        "services/memory/tokens.py",
        "key = hash(text), len(text)",
        "key = 0, len(text)",
        "tests/unit/test_memory_tokens.py::test_what_is_remembered_is_what_would_be_counted",
    ),
    Mutant(
        "services/memory/forecast.py",
        "known - less + more",
        "known + more",
        "tests/unit/test_memory_forecast.py::test_after_a_trim_what_has_gone_is_taken_off",
    ),
    Mutant(
        "services/memory/forecast.py",
        "if anchor.reply in gone:",
        "if False:",
        "tests/unit/test_memory_forecast.py::test_a_reply_that_is_asked_for_again_is_no_part_of_its_prompt",
    ),
    Mutant(
        "services/memory/forecast.py",
        "return replace(rates, has_thoughts=True).learn(asked, more)",
        "return rates.learn(asked, more)",
        "tests/unit/test_memory_forecast.py::test_thoughts_are_no_part_of_the_next_prompt",
    ),
    Mutant(
        "services/memory/forecast.py",
        "return call.tokens.reply - call.tokens.thoughts",
        "return call.tokens.reply",
        "tests/unit/test_memory_forecast.py::test_thoughts_are_no_part_of_the_next_prompt",
    ),
    Mutant(
        "services/memory/forecast.py",
        "return call.tokens.prompt * 2 >= rates",
        "return call.tokens.prompt * 200 >= rates",
        "tests/unit/test_memory_forecast.py::test_a_count_without_what_was_cached_anchors_nothing_and_teaches_nothing",
    ),
    Mutant(
        "services/memory/forecast.py",
        "call.model == model and _is_likely",
        "_is_likely",
        "tests/unit/test_memory_forecast.py::test_an_anchor_is_the_last_call_of_the_same_model",
    ),
    Mutant(
        "services/memory/forecast.py",
        "min(_SURPRISE, max(1 / _SURPRISE, counted / expected))",
        "counted / expected",
        "tests/unit/test_memory_forecast.py::test_one_count_that_is_far_off_does_not_undo_what_was_learned",
    ),
    Mutant(
        "services/memory/forecast.py",
        "min(ceil(high / 100), self.bound(text))",
        "ceil(high / 100)",
        "tests/unit/test_memory_forecast.py::test_a_scaled_count_of_what_needs_more_than_estimated_is_still_within_the_bound",
    ),
    Mutant(
        "services/chat/counting.py",
        "if receipt and receipt.model == model:",
        "if receipt:",
        "tests/unit/test_counting.py::test_a_plan_counts_by_the_last_receipt_of_its_model",
    ),
    Mutant(
        "services/chat/counting.py",
        "stored if stored.seen > known.seen else known",
        "stored",
        "tests/unit/test_counting.py::test_what_was_learned_from_more_is_what_is_known",
    ),
    Mutant(
        "services/chat/counting.py",
        "            self._refused.add(conversation_id)\n",
        "            pass\n",
        "tests/store/test_counting.py::test_after_a_refusal_for_its_length_less_is_sent",
    ),
    Mutant(
        "services/chat/counting.py",
        "            self._refused.discard(conversation_id)\n",
        "            pass\n",
        "tests/store/test_counting.py::test_after_a_refusal_for_its_length_less_is_sent",
    ),
    Mutant(
        "services/chat/counting.py",
        "if last is None or last[0] != rates:",
        "if last is None:",
        "tests/unit/test_counting.py::test_without_rates_the_plain_counter_counts_and_with_them_one_that_is_kept",
    ),
    Mutant(
        "services/chat/planning.py",
        "plan = self._plan(thread, setup, history, stored)",
        "rates = self.counting.rates(setup.info.name, stored)\n        plan = self._plan(thread, setup, history, rates)",
        "tests/store/test_counting.py::test_a_first_turn_knows_of_the_model_from_other_conversations",
    ),
    Mutant(
        "services/chat/planning.py",
        "self._counter(rates),  # as",
        "self.counter,  # as",
        "tests/store/test_counting.py::test_a_summary_is_due_when_the_next_turn_overflows_by_the_same_count",
    ),
    Mutant(
        "services/chat/planning.py",
        "            return self.store.receipts(messages, conversation_id)\n        except StoreUnavailable:\n            if is_final:\n                raise\n",
        "            return self.store.receipts(messages, conversation_id)\n        except StoreUnavailable:\n",
        "tests/store/test_counting.py::test_while_receipts_cannot_be_read_a_view_is_shown_and_no_turn_begun",
    ),
    Mutant(
        "services/chat/service.py",
        "reported = self.calls.produce(turn, call)\n",
        "reported = self.calls.produce(turn, call) or Tokens(call.plan.prompt_tokens, 50)\n",
        "tests/store/test_counting.py::test_where_the_endpoint_reports_nothing_nothing_is_learned",
    ),
    Mutant(
        "services/chat/service.py",
        "        self.counting.forget(conversation_id)\n",
        "",
        "tests/store/test_counting.py::test_of_a_conversation_that_is_discarded_no_call_is_kept",
    ),
    Mutant(
        "services/store/turns.py",
        "            self._receipts.put(begun.turn_id, text)\n",
        "            pass\n",
        "tests/store/test_counting.py::test_a_view_costs_no_query_here_and_one_where_it_is_opened",
    ),
    Mutant(
        "services/memory/receipt.py",
        "rates=_written_rates(rates) if rates else ()",
        "rates=()",
        "tests/store/test_counting.py::test_another_process_plans_the_same_from_the_same_rows",
    ),
    Mutant(
        "services/memory/receipt.py",
        "has_thoughts=rates is not None and rates.has_thoughts",
        "has_thoughts=False",
        "tests/unit/test_receipt.py::test_what_was_known_of_the_model_is_known_again",
    ),
    Mutant(
        "services/llm/openai_model.py",
        " if _TOO_LONG.search(error.message):",
        ":",
        "tests/unit/test_llm.py::test_a_prompt_that_is_too_long_is_told_from_other_refusals",
    ),
    Mutant(
        "pages/_parts/memory.py",
        "round(100 * forecast.tokens / room)",
        "round(100 * plan.prompt_tokens / room)",
        "tests/pages/test_memory.py::test_the_meter_shows_what_the_endpoint_is_likely_to_count",
    ),
    Mutant(
        "pages/_parts/inspector.py",
        "used = tokens + reply.tokens",
        "used = sent.prompt_tokens + reply.tokens",
        "tests/pages/test_memory.py::test_the_meter_shows_what_the_endpoint_is_likely_to_count",
    ),
    # the model's endpoint
    Mutant(
        "services/llm/openai_model.py",
        "if beside > prompt or total - prompt - reply == beside != thoughts:",
        "if beside > prompt:",
        "tests/unit/test_llm.py::test_what_was_used_is_counted_once_wherever_it_is_said",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "    if thoughts > reply:",
        "    if False:",
        "tests/unit/test_llm.py::test_what_was_used_is_counted_once_wherever_it_is_said",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "self._counts |= _counts(said)",
        "self._counts += _counts(said)",
        "tests/unit/test_llm.py::test_counts_in_many_chunks_are_not_added_up",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "prompt=timings.prompt_n + timings.cache_n,",
        "prompt=timings.prompt_n,",
        "tests/unit/test_llm.py::test_what_was_used_is_counted_once_wherever_it_is_said",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "failure not in _PASSING or receipt.has_begun:",
        "failure not in _PASSING:",
        "tests/unit/test_llm.py::test_what_came_is_kept_and_only_an_unbegun_reply_is_asked_for_again",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "max(next(pauses, inf), asked)",
        "next(pauses, inf)",
        "tests/unit/test_llm.py::test_the_endpoint_says_how_long_to_wait",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "trust_env=not _is_here(base_url),",
        "trust_env=not _is_here(base_url), follow_redirects=True,",
        "tests/unit/test_llm.py::test_a_prompt_does_not_follow_a_redirect_to_somebody_else",
    ),
    Mutant(
        "services/llm/catalogue.py",
        "(tokens.prompt - cached) * self.input_micro",
        "tokens.prompt * self.input_micro",
        "tests/unit/test_llm_catalogue.py::test_cached_tokens_are_charged_once_and_at_their_price",
    ),
    Mutant(
        "services/events.py",
        "case int() | float() | None:",
        "case int() | float() | str() | None:",
        "tests/unit/test_events.py::test_text_is_refused_even_where_types_are_not_checked",
    ),
    # the store and the chat
    Mutant(
        "services/store/threads.py",
        "if row.destroy_at and not may_be_discarded:",
        "if False:",
        "tests/store/test_conversations.py::test_a_discarded_conversation_is_like_none_until_it_is_brought_back",
    ),
    Mutant(
        "services/store/turns.py",
        "self._threads.read(conversation_id, may_be_discarded=True)",
        "self._threads.read(conversation_id)",
        "tests/store/test_conversations.py::test_a_reply_that_comes_while_its_conversation_is_discarded_is_there_when_it_is_back",
    ),
    Mutant(
        "services/store/threads.py",
        "is_whole=head is not None and head == total and head.rev == row.rev",
        "is_whole=True",
        "tests/store/test_conversations.py::test_what_a_database_owner_changes_is_noticed_and_the_rest_stays_readable",
    ),
    Mutant(
        "services/store/sessions.py",
        "            if lease.ok:",
        '            if lease.reason != "not_found":',
        "tests/store/test_sessions.py::test_eight_processes_that_open_one_cookie_at_once_all_succeed",
    ),
    Mutant(
        "services/chat/service.py",
        "if seen_rev is not None and seen_rev not in _seen_revs(thread):",
        "if False:",
        "tests/store/test_chat.py::test_a_tab_that_has_not_seen_the_last_message_is_told",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "turn.when_stopped(stream.cancel)",
        "pass",
        "tests/store/test_chat.py::test_a_stop_ends_the_request_and_keeps_what_was_said",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "max_tokens = min(plan.reply_tokens, affordable)",
        "max_tokens = plan.reply_tokens",
        "tests/store/test_chat.py::test_a_clipped_budget_clips_the_reply",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "            except StoreUnavailable as error:\n                if time.monotonic() > deadline:\n                    return error",
        "            except StoreUnavailable as error:\n                if True:\n                    return error",
        "tests/store/test_chat.py::test_a_reply_waits_for_a_database_that_is_away",
    ),
    # which model answers, and what it is told
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "update public.conversations set model = new_model where id = conversation and user_id = person;",
        "update public.conversations set model = new_model where id = conversation;",
        "tests/database/test_choices.py::test_nobody_chooses_for_another_persons_conversation",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "update public.conversations set instructions = new_instructions where id = conversation and user_id = person;",
        "update public.conversations set instructions = new_instructions where id = conversation;",
        "tests/database/test_choices.py::test_nobody_chooses_for_another_persons_conversation",
    ),
    Mutant(
        "db/migrations/20261121091000_accounts_and_sessions.sql",
        "where user_id = person and preferences is not distinct from replaces;",
        "where user_id = person;",
        "tests/database/test_choices.py::test_preferences_are_replaced_by_who_has_seen_them_and_are_ones_own",
    ),
    Mutant(
        "services/chat/setup.py",
        "counter.count(own) > setup.context_tokens // 2",
        "counter.count(own) > offer.info.context_tokens // 2",
        "tests/unit/test_setup.py::test_what_a_person_wrote_takes_at_most_half_of_the_models_context",
    ),
    Mutant(
        "services/chat/setup.py",
        "chosen[0] if chosen and chosen[0] != offer.info.name else None",
        "None",
        "tests/unit/test_setup.py::test_the_nearest_choice_that_is_still_offered_answers[gone-large-large-gone]",
    ),
    Mutant(
        "services/chat/setup.py",
        "thread.instructions if thread else None)",
        "preferences.instructions or (thread.instructions if thread else None))",
        "tests/unit/test_setup.py::test_the_nearest_instructions_are_used[H-M-H]",
    ),
    Mutant(
        "services/chat/afterwards.py",
        "branch, offer = thread.branch(), self.setup(thread).offer",
        "branch, offer = thread.branch(), self.calls.models.first",
        "tests/store/test_choices.py::test_a_title_is_made_by_the_model_that_answers",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "            cost_micro=info.cost_micro(tokens),",
        "            cost_micro=self.models.first.info.cost_micro(tokens),",
        "tests/store/test_choices.py::test_the_books_follow_the_chosen_model",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "        info = offer.info\n        worst_prompt",
        "        info = self.models.first.info\n        worst_prompt",
        "tests/store/test_choices.py::test_what_is_reserved_is_the_chosen_models_worst_cost",
    ),
    Mutant(
        "services/chat/planning.py",
        "        if setup.is_too_long:\n            raise InstructionsTooLong\n",
        "",
        "tests/store/test_choices.py::test_instructions_that_leave_no_room_are_refused_in_a_sentence_and_nothing_is_stored",
    ),
    Mutant(
        "services/store/threads.py",
        'return self._place("instructions", conversation_id)',
        'return self._place("title", conversation_id)',
        "tests/store/test_choices.py::test_instructions_that_do_not_open_are_passed_over_and_said_to_be_lost",
    ),
    Mutant(
        "services/store/threads.py",
        "            own, is_verified = None, False\n",
        "            own, is_verified = None, True\n",
        "tests/store/test_choices.py::test_another_conversations_instructions_do_not_open_here",
    ),
    Mutant(
        "services/store/threads.py",
        "self._known.put(conversation_id, replace(known, thread=change(known.thread)))",
        "pass",
        "tests/store/test_choices.py::test_a_choice_holds_for_a_prompt_that_comes_before_the_page_is_drawn",
    ),
    Mutant(
        "services/store/profile.py",
        'ConfigDict(extra="allow", hide',
        'ConfigDict(extra="ignore", hide',
        "tests/store/test_choices.py::test_what_a_later_version_prefers_stays",
    ),
    Mutant(
        "services/store/fresh.py",
        "            if held is None:\n                raise\n            return held[1]",
        "            raise",
        "tests/store/test_choices.py::test_preferences_are_asked_for_once_a_minute_and_kept_while_nobody_answers",
    ),
    Mutant(
        "services/store/fresh.py",
        "        if changes != self._changes:  # while it was read\n            self.outdate()\n",
        "",
        "tests/unit/test_fresh.py::test_what_was_changed_while_it_was_read_is_read_again",
    ),
    Mutant(
        "services/store/fresh.py",
        "self._held = -math.inf, self._held[1]",
        "self._held = None",
        "tests/store/test_memories.py::test_after_a_change_that_is_followed_by_an_outage_what_was_read_last_is_shown",
    ),
    Mutant(
        "services/store/memories.py",
        "        finally:  # also where nobody can say whether it was done\n            self._known.outdate()\n",
        "        finally:\n            pass\n",
        "tests/store/test_memories.py::test_what_was_kept_without_an_answer_is_read_again",
    ),
    Mutant(
        "services/store/memories.py",
        "        self._known.amend(lambda kept: {one: kept[one] for one in kept if one != fact_id})\n",
        "",
        "tests/store/test_memories.py::test_after_a_change_that_is_followed_by_an_outage_what_was_read_last_is_shown",
    ),
    Mutant(
        "services/llm/openai_model.py",
        "other._name, other._dialect = name, _Dialect()",
        "other._name = name",
        "tests/unit/test_llm.py::test_another_model_of_the_endpoint_goes_by_its_own_name_and_learns_for_itself",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "            models.forget_picked()\n",
        "            pass\n",
        "tests/pages/test_choices_page.py::test_a_conversation_begins_with_the_model_that_was_picked_for_it",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "chat.begin(None, prompt, model=picked, space_id=space_id)",
        "chat.begin(None, prompt, space_id=space_id)",
        "tests/pages/test_choices_page.py::test_a_conversation_begins_with_the_model_that_was_picked_for_it",
    ),
    Mutant(
        "pages/_parts/memory.py",
        "    except (PromptTooLong, InstructionsTooLong):",
        "    except PromptTooLong:",
        "tests/pages/test_choices_page.py::test_instructions_that_leave_no_room_are_said_to_and_the_page_can_be_read",
    ),
    Mutant(
        "services/portable/export.py",
        '            "instructions": thread.instructions,',
        '            "instructions": None,',
        "tests/unit/test_portable.py::test_an_export_holds_everything_that_an_import_needs",
    ),
    # texts
    Mutant(
        "services/store/texts.py",
        '    text = text.replace("\\x00", "").strip()\n    try:',
        "    try:",
        "tests/unit/test_texts.py::test_what_is_storable_can_be_stored_and_stays_as_it_is",
    ),
    Mutant(
        "services/store/conversations.py",
        "self._sealed_title(conversation_id, checked_title(title))",
        "self._sealed_title(conversation_id, title)",
        "tests/store/test_conversations.py::test_what_is_no_title_is_refused",
    ),
    Mutant(
        "services/chat/service.py",
        "        text = storable(text)\n",
        "",
        "tests/store/test_summaries.py::test_a_summary_is_edited_and_the_edit_is_sent",
    ),
    # spaces
    Mutant(
        "services/store/conversations.py",
        'query.eq("space_id", str(space_id)) if space_id else query',
        "query",
        "tests/store/test_memories.py::test_the_list_of_a_space_is_paged_by_itself",
    ),
    Mutant(
        "services/store/conversations.py",
        "if space_id in (None, conversation.space_id)\n            and all",
        "if all",
        "tests/store/test_memories.py::test_the_list_of_a_space_is_paged_by_itself",
    ),
    Mutant(
        "services/store/conversations.py",
        "place = is_archived, space_id",
        "place = is_archived, None",
        "tests/store/test_memories.py::test_while_the_database_is_away_each_list_is_as_it_was_read",
    ),
    Mutant(
        "services/store/conversations.py",
        "if space_id and self.has(conversation_id):",
        "if space_id:",
        "tests/store/test_memories.py::test_a_conversation_moves_and_stays_when_its_space_goes",
    ),
    Mutant(
        "services/chat/setup.py",
        "(Source.SPACE, space.instructions if space else None),\n",
        "",
        "tests/unit/test_setup.py::test_it_is_known_whose_instructions_they_are[-S-M-space]",
    ),
    Mutant(
        "services/chat/service.py",
        "            if space is None:\n                raise SpaceGone\n",
        "",
        "tests/pages/test_spaces.py::test_in_a_space_that_was_deleted_meanwhile_nothing_is_begun",
    ),
    Mutant(
        "services/chat/planning.py",
        " and (keeps_facts or fact.is_placed)\n",
        "\n",
        "tests/pages/test_spaces.py::test_what_was_written_into_a_space_is_told_in_it_alone",
    ),
    Mutant(
        "services/chat/planning.py",
        " and (keeps_facts or fact.is_placed)\n",
        " and keeps_facts\n",
        "tests/pages/test_spaces.py::test_what_was_written_into_a_space_is_told_in_it_alone",
    ),
    Mutant(
        "services/domain.py",
        "return bool(self.conversation_id or self.space_id) and self.source_id is None",
        "return bool(self.space_id) and self.source_id is None",
        "tests/store/test_facts.py::test_what_a_person_wrote_for_a_conversation_is_told_in_it_and_in_no_other",
    ),
    Mutant(
        "services/domain.py",
        "        if self.conversation_id:\n            return self.conversation_id == conversation.id\n",
        "",
        "tests/store/test_facts.py::test_what_a_person_wrote_for_a_conversation_is_told_in_it_and_in_no_other",
    ),
    Mutant(
        "services/store/memories.py",
        "        keys = self._threads.rows(ConversationId(each) for each in others if each)\n",
        "        keys: dict[ConversationId, ConversationRow] = {}\n",
        "tests/store/test_memories.py::test_facts_of_many_conversations_are_read_in_few_questions",
    ),
    Mutant(
        "services/store/memories.py",
        "    return (kept.token, fact.conversation_id, fact.space_id) == (\n        row.body,\n        row.conversation_id,\n        row.space_id,\n    )",
        "    return kept.token == row.body",
        "tests/store/test_memories.py::test_a_fact_that_was_moved_into_another_scope_does_not_open",
    ),
    Mutant(
        "pages/_session.py",
        "return conversation | ({SPACE: space} if space else {})",
        "return conversation",
        "tests/pages/test_spaces.py::test_a_chat_that_is_begun_in_a_space_belongs_to_it",
    ),
    Mutant(
        "pages/_parts/spaces.py",
        " and space_id in (None, opened.space_id)",
        "",
        "tests/pages/test_spaces.py::test_what_is_open_stays_where_it_is_one_of_those_that_are_listed",
    ),
    Mutant(
        "pages/_parts/spaces.py",
        "            label += _APART",
        "            break",
        "tests/pages/test_spaces.py::test_two_spaces_of_one_name_are_two",
    ),
    Mutant(
        "pages/_parts/spaces.py",
        "    except StoreUnavailable:\n        return space_id",
        "    except StoreUnavailable:\n        return None",
        "tests/pages/test_spaces.py::test_a_chat_is_begun_in_no_other_place_than_its_writer_chose",
    ),
    Mutant(
        "pages/_parts/spaces.py",
        "if not space.is_archived or space.id in besides",
        "",
        "tests/pages/test_spaces.py::test_an_archived_space_leaves_the_chooser_and_is_found_in_the_archive",
    ),
    Mutant(
        "pages/_parts/space_dialogs.py",
        "opened.space, opened.is_new = now, False",
        "opened.is_new = False",
        "tests/pages/test_spaces.py::test_what_was_changed_elsewhere_is_shown_before_it_is_replaced",
    ),
    Mutant(
        "pages/_parts/space_dialogs.py",
        "if replace(now, created_at=wanted.created_at) != wanted:",
        "if now:",
        "tests/pages/test_spaces.py::test_a_space_whose_answer_was_lost_is_made_once",
    ),
    Mutant(
        "pages/_parts/scoped_facts.py",
        "(fact.conversation_id, fact.space_id) == (self.conversation_id, self.space_id)",
        "fact.space_id is not None or fact.conversation_id == self.conversation_id",
        "tests/pages/test_spaces.py::test_only_the_facts_of_the_space_are_in_its_dialog",
    ),
    Mutant(
        "pages/_parts/scoped_facts.py",
        "            st.session_state[_NEW] = text\n",
        "",
        "tests/pages/test_spaces.py::test_a_fact_that_was_deleted_elsewhere_waits_to_be_added_again",
    ),
    Mutant(
        "pages/_parts/dialogs.py",
        "        st.toast(news)",
        "        pass",
        "tests/pages/test_spaces.py::test_a_conversation_is_moved_into_a_space_and_out",
    ),
    Mutant(
        "pages/_parts/preferences.py",
        "setup(None, space_id=conversation.space_id)",
        "setup(None)",
        "tests/pages/test_spaces.py::test_the_instructions_dialog_says_whose_they_are",
    ),
    # the doors
    Mutant(
        "services/web/shield.py",
        "if name.lower() not in (USER_HEADER, SESSION_HEADER)",
        "if name",
        "tests/web/test_shield.py::test_what_a_client_says_of_itself_never_passes",
    ),
    Mutant(
        "services/web/visitors.py",
        "if age < _TRUST_SECONDS:",
        "if age >= 0:",
        "tests/web/test_shield.py::test_a_session_ended_elsewhere_ends_here",
    ),
    Mutant(
        "services/web/doors.py",
        "return origin == self.url",
        "return True",
        "tests/web/test_doors.py::test_behind_a_proxy_the_configured_address_decides",
    ),
    Mutant(
        "services/web/doors.py",
        'and not goal.startswith(("//", "/\\\\"))',
        "",
        "tests/web/test_doors.py::test_the_way_on_stays_on_this_site",
    ),
    Mutant(
        "services/web/doors.py",
        "sign-in as {_folded(email)}",
        "sign-in as {email}",
        "tests/web/test_doors.py::test_an_account_closes_after_ten_tries_from_wherever_they_come",
    ),
    # the pages
    Mutant(
        "pages/_parts/safe_md.py",
        'return text.replace(_IMAGE, r"!\\[") if could_be_image else text',
        "return text",
        "tests/unit/test_safe_md.py::test_no_text_becomes_an_image_or_a_diagram",
    ),
    Mutant(
        "pages/_parts/safe_md.py",
        "may_trust = may_trust and not _HOLDS_LINES.match(line)",
        "may_trust = True",
        "tests/unit/test_safe_md.py::test_no_text_becomes_an_image_or_a_diagram",
    ),
    Mutant(
        "pages/_parts/safe_md.py",
        'return _PUNCTUATION.sub(r"\\\\\\1", parted)',
        "return parted",
        "tests/unit/test_safe_md.py::test_a_label_is_its_own_text_on_one_line",
    ),
    Mutant(
        "pages/_parts/messages.py",
        "safe_md.body(message.body)",
        "message.body",
        "tests/pages/test_chat_page.py::test_nothing_that_anybody_wrote_loads_from_elsewhere",
    ),
    Mutant(
        "pages/_parts/messages.py",
        " if message.is_verified else _UNVERIFIED",
        "",
        "tests/pages/test_chat_page.py::test_a_message_that_does_not_verify_is_not_shown_and_the_rest_is",
    ),
    Mutant(
        "pages/_parts/dialogs.py",
        'safe_md.label(conversation.title or "Untitled", limit)',
        "conversation.title",
        "tests/pages/test_chat_page.py::test_nothing_that_anybody_wrote_loads_from_elsewhere",
    ),
    Mutant(
        "pages/_parts/turns.py",
        'safe_md.body(f"{said} ▍")',
        'f"{said} ▍"',
        "tests/pages/test_chat_page.py::test_nor_does_a_reply_while_it_comes",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "            st.session_state.composer = refusal.prompt",
        "            pass",
        "tests/pages/test_chat_page.py::test_a_prompt_over_the_budget_comes_back_into_the_composer",
    ),
    Mutant(
        "pages/_parts/turns.py",
        ", seen_rev=conversation.rev",
        "",
        "tests/pages/test_chat_page.py::test_the_second_of_two_tabs_is_told_and_loses_nothing",
    ),
    Mutant(
        "pages/_parts/turns.py",
        ", tip_id=tip_id",
        "",
        "tests/pages/test_chat_page.py::test_a_reply_that_was_written_again_can_be_read_in_both_versions",
    ),
    Mutant(
        "services/chat/planning.py",
        "return conversation.start_seq if is_here else conversation.reset_seq",
        "return conversation.start_seq",
        "tests/store/test_chat.py::test_the_stored_beginning_of_a_view_is_its_own_branchs",
    ),
    Mutant(
        "services/chat/service.py",
        "            thread = thread.up_to(message_id)",
        "            pass",
        "tests/store/test_chat.py::test_an_earlier_reply_is_written_again_beside_the_first",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "    if typed and not is_taken:",
        "    if False:",
        "tests/pages/test_chat_page.py::test_a_prompt_sent_to_a_server_just_started_comes_back",
    ),
    Mutant(
        "pages/_session.py",
        '        st.session_state.unsent = prompt if is_unsent_kept else ""',
        "        pass",
        "tests/pages/test_chat_page.py::test_a_prompt_can_be_copied_when_the_session_turns_out_to_have_ended",
    ),
    Mutant(
        "streamlit_app.py",
        "        if _session.is_admin(person):",
        "        if person:",
        "tests/pages/test_admin_page.py::test_for_others_the_page_is_not_there_and_nothing_is_asked",
    ),
    Mutant(
        "pages/_parts/conversation_list.py",
        "if opened and opened.id not in",
        "if opened and opened.id in",
        "tests/pages/test_conversation_list.py::test_the_open_conversation_is_in_the_list_though_it_is_old",
    ),
    Mutant(
        "pages/_parts/undo.py",
        "escape(one.name)",
        "one.name",
        "tests/pages/test_conversation_list.py::test_a_title_that_was_deleted_draws_nothing",
    ),
    Mutant(
        "pages/_parts/undo.py",
        "            deleted.append(one)\n",
        "",
        "tests/pages/test_conversation_list.py::test_undo_is_offered_again_where_the_database_stumbled",
    ),
    Mutant(
        "pages/_parts/undo.py",
        "    if one not in deleted:",
        "    if not one:",
        "tests/pages/test_conversation_list.py::test_a_double_click_brings_back_once",
    ),
    Mutant(
        "pages/_parts/preferences.py",
        "    if key not in st.session_state:",
        "    if key:",
        "tests/pages/test_choices_page.py::test_what_another_tab_prefers_meanwhile_stays_where_this_one_changed_something_else",
    ),
    Mutant(
        "pages/_parts/preferences.py",
        "        seen.text = changed.now\n",
        "",
        "tests/pages/test_choices_page.py::test_what_another_tab_prefers_meanwhile_is_shown_before_it_is_replaced",
    ),
    Mutant(
        "services/store/profile.py",
        "            check_seen(seen, known.instructions, checked)\n",
        "",
        "tests/store/test_choices.py::test_instructions_are_replaced_only_by_who_has_seen_them",
    ),
    Mutant(
        "services/store/threads.py",
        '        self._session.keep_fresh()\n        with store_errors():\n            query = self._session.client.table("conversations")',
        '        with store_errors():\n            query = self._session.client.table("conversations")',
        "tests/store/test_conversations.py::test_what_is_done_first_after_an_idle_hour_is_done_with_a_new_token",
    ),
    Mutant(
        "services/store/threads.py",
        "        self._vaults.drop(conversation_id)\n",
        "",
        "tests/store/test_conversations.py::test_of_what_is_deleted_neither_key_nor_text_stays_in_the_memory",
    ),
    Mutant(
        "services/store/threads.py",
        "Recent[ConversationId, KnownThread](_MOST)",
        "Recent[ConversationId, KnownThread](1000)",
        "tests/store/test_conversations.py::test_of_many_conversations_the_last_stay_opened_and_all_stay_right",
    ),
    Mutant(
        "services/store/recent.py",
        "self._held.popitem(last=False)",
        "self._held.popitem()",
        "tests/unit/test_recent.py::test_what_was_used_longest_ago_goes",
    ),
    Mutant(
        "services/bootstrap.py",
        "            shared.people.pop(session.id, None)\n",
        "",
        "tests/unit/test_bootstrap.py::test_who_leaves_while_their_services_are_made_is_not_kept",
    ),
    Mutant(
        "services/store/conversations.py",
        "        self._threads.amend(conversation_id, change)\n",
        "",
        "tests/store/test_choices.py::test_what_the_model_may_see_holds_for_a_prompt_that_comes_before_the_page_is_drawn",
    ),
    Mutant(
        "services/store/conversations.py",
        "                check_seen(seen, self.instructions(conversation_id), checked)",
        "                pass",
        "tests/store/test_choices.py::test_instructions_are_replaced_only_by_who_has_seen_them",
    ),
    Mutant(
        "assets/page/keys.js",
        "    event.stopPropagation();\n    daybook",
        "    daybook",
        "tests/journeys/test_list.py::test_escape_in_the_filter_stops_no_reply",
    ),
    Mutant(
        "pages/admin.py",
        "if person.account.role is not AccountRole.ADMIN:",
        "if False:",
        "tests/pages/test_admin_page.py::test_the_page_itself_asks_nothing_for_others",
    ),
    Mutant(
        "streamlit_app.py",
        "PagesManager.uses_pages_directory = False",
        "PagesManager.uses_pages_directory = True",
        "tests/pages/test_sign_in_page.py::test_the_server_runs_no_page_by_itself",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "    new.read_seq := new.last_seq;",
        "    null;",
        "tests/database/test_unread.py::test_who_writes_has_read_what_stands_before",
    ),
    Mutant(
        "db/migrations/20261121093000_turns_and_money.sql",
        "where id = conversation and user_id = person",
        "where id = conversation",
        "tests/database/test_unread.py::test_nobody_reads_for_another",
    ),
    Mutant(
        "pages/_parts/conversation_list.py",
        "conversation.is_unread and not is_opened",
        "False",
        "tests/pages/test_conversation_list.py::test_a_reply_that_came_elsewhere_is_news_until_it_is_opened",
    ),
    # titles
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        " and titled_by = 'words';",
        ";",
        "tests/database/test_titles.py::test_a_persons_title_is_replaced_by_no_other",
    ),
    Mutant(
        "db/migrations/20261121092000_conversations.sql",
        "set title = new_title, titled_by = 'person' where",
        "set title = new_title where",
        "tests/store/test_titles.py::test_a_persons_title_is_kept_where_the_model_is_making_one",
    ),
    Mutant(
        "services/chat/afterwards.py",
        " or reply.failure or reply.is_stopped:",
        " or reply.failure:",
        "tests/store/test_titles.py::test_the_first_complete_reply_is_the_one_that_counts[stopped]",
    ),
    Mutant(
        "services/chat/paid_calls.py",
        "turn.is_stopped or has_run_on)",
        "turn.is_stopped)",
        "tests/store/test_titles.py::test_where_the_model_makes_none_the_first_words_stay_and_it_is_paid[endless]",
    ),
    Mutant(
        "services/chat/service.py",
        "(self.titling, self.summarising, self.noting) if aside",
        "(self.summarising, self.noting) if aside",
        "tests/store/test_titles.py::test_who_leaves_stops_the_title_and_pays_what_it_cost",
    ),
    Mutant(
        "pages/chat.py",
        "        turns.await_news(ended, expected, person.chat, desk.chat)",
        "        pass",
        "tests/journeys/test_one_person.py::test_a_title_comes_by_itself_and_disturbs_nobody",
    ),
    Mutant(
        "services/chat/titles.py",
        "            if conversation_id in self._tried:",
        "            if False:",
        "tests/store/test_titles.py::test_a_conversation_is_tried_once_in_a_process",
    ),
    Mutant(
        "services/chat/titles.py",
        "        and all(sign.isprintable() or sign in _JOINERS for sign in line)\n",
        "",
        "tests/unit/test_titles.py::test_what_is_no_title_is_none",
    ),
    # words
    Mutant(
        "pages/_parts/words.py",
        '            parts = parts[:-1] or [""]\n',
        '            parts = [""]\n',
        "tests/pages/test_words.py::test_whatever_a_browser_calls_its_language",
    ),
    Mutant(
        "pages/_parts/words.py",
        "    if here.date() >= today.date():\n",
        "    if at.date() >= today.date():\n",
        "tests/pages/test_words.py::test_a_day_ends_where_its_reader_is",
    ),
    # keys
    Mutant(
        "assets/page/keys.js",
        "    event.stopPropagation(); // what is behind it hears nothing\n",
        "",
        "tests/journeys/test_keys.py::test_the_sheet_opens_over_a_reply_which_goes_on",
    ),
    Mutant(
        "assets/page/keys.js",
        '!event.target.closest("input, textarea, [role=dialog]")',
        "true",
        "tests/journeys/test_keys.py::test_a_question_mark_that_is_typed_opens_nothing",
    ),
    Mutant(
        "assets/page/keys.js",
        "  else if (tries) setTimeout(openFirst, 50, tries - 1);\n",
        "",
        "tests/journeys/test_keys.py::test_from_the_filter_the_arrows_go_through_what_was_found",
    ),
    Mutant(
        "assets/page/focus.js",
        '  if (isElsewhere && this.closest(".st-key-composer")) return;\n',
        "",
        "tests/journeys/test_keys.py::test_whoever_writes_elsewhere_when_a_reply_ends_goes_on_there",
    ),
    Mutant(
        "assets/style.css",
        '.st-key-conversation-list:has([data-stale="false"] [data-found]) ',
        ".nowhere ",
        "tests/journeys/test_list.py::test_while_a_reply_comes_the_list_shows_what_there_is_and_no_more",
    ),
    Mutant(
        "assets/style.css",
        '.st-key-undo > :not(:has([data-stale="false"])),',
        ".nowhere,",
        "tests/journeys/test_list.py::test_while_a_reply_comes_the_list_shows_what_there_is_and_no_more",
    ),
    Mutant(
        "assets/page/keys.js",
        "  if (found === field().value.trim()) rows()[0]?.click();",
        "  if (rows()[0]?.innerText.includes(field().value.trim())) rows()[0].click();",
        "tests/journeys/test_keys.py::test_enter_opens_what_was_found_however_its_title_is_drawn",
    ),
    Mutant(
        "assets/page/keys.js",
        "if (event.isComposing || event.keyCode === 229) event.stopImmediatePropagation();\n  else if",
        "if",
        "tests/journeys/test_keys.py::test_a_letter_that_is_being_composed_keeps_its_enter_and_escape",
    ),
    # every reader
    Mutant(
        "assets/page/copy.js",
        "() => true, () => false",
        "() => true",
        "tests/journeys/test_access.py::test_a_copy_that_the_browser_refuses_is_said_to_be",
    ),
    Mutant(
        "pages/_parts/browser.py",
        "      if (region.dataset.news === news) return;",
        "      if (!data.words || region.dataset.news === news) return;",
        "tests/journeys/test_access.py::test_that_a_reply_is_tried_again_is_heard",
    ),
    Mutant(
        "assets/page/names.js",
        'toast.setAttribute("aria-label", toast.innerText);',
        "",
        "tests/journeys/test_access.py::test_beside_a_conversation_is_no_barrier[desk]",
    ),
    Mutant(
        "pages/chat.py",
        "    browser.announce(*heard())  # before",
        "    # before",
        "tests/journeys/test_access.py::test_that_a_reply_comes_and_how_it_ended_is_heard_and_not_each_word",
    ),
    Mutant(
        "assets/style.css",
        '[data-testid="stSidebar"][data-collapsed="true"] { visibility: hidden }\n',
        "",
        "tests/journeys/test_access.py::test_tab_skips_a_folded_sidebar",
    ),
    Mutant(
        "assets/style.css",
        "transition: none !important; scroll-behavior",
        "scroll-behavior",
        "tests/journeys/test_access.py::test_nothing_moves_where_motion_is_not_wanted",
    ),
    Mutant(
        "assets/style.css",
        '.stCode > div:has([data-testid="stElementToolbarButton"]) { visibility: visible }\n',
        "",
        "tests/journeys/test_access.py::test_tab_leads_through_the_page_as_it_is_read_and_shows_where_it_is",
    ),
    Mutant(
        "assets/style.css",
        "border-color: var(--accent); outline: 1px solid var(--accent) }",
        "border-color: var(--accent) }",
        "tests/journeys/test_access.py::test_tab_leads_through_the_page_as_it_is_read_and_shows_where_it_is",
    ),
    Mutant(
        "assets/style.css",
        '[data-testid="stCaptionContainer"] { color: var(--pencil); opacity: 1 }',
        '[data-testid="stCaptionContainer"] { color: var(--pencil) }',
        "tests/journeys/test_access.py::test_whoever_is_signed_out_meets_no_barrier[desk]",
    ),
    Mutant(
        "assets/style.css",
        "  .db-act { width: 2.5rem; height: 2.5rem }\n",
        "",
        "tests/journeys/test_access.py::test_what_a_finger_touches_is_large_enough",
    ),
    # a database that is away, and a session that has ended
    Mutant(
        "services/store/reach.py",
        "        if self.is_away:",
        "        if False:",
        "tests/unit/test_reach.py::test_while_it_is_away_no_call_waits_for_it",
    ),
    Mutant(
        "services/store/reach.py",
        "return min(2 * pause, _LONGEST)",
        "return pause",
        "tests/unit/test_reach.py::test_a_database_that_does_not_answer_is_asked_ever_more_rarely",
    ),
    Mutant(
        "services/store/reach.py",
        "            self._away_since = None\n",
        "",
        "tests/unit/test_reach.py::test_each_change_is_told_once",
    ),
    Mutant(
        "services/store/reach.py",
        "            except Exception:",
        "            except StoreUnavailable:",
        "tests/unit/test_reach.py::test_a_bug_ends_the_asking_for_nobody",
    ),
    Mutant(
        "services/web/life.py",
        "return self._was_open and (self._is_unreachable or not self.is_open)",
        "return self._is_unreachable",
        "tests/unit/test_embedded.py::test_a_database_that_was_there_and_does_not_answer_is_away",
    ),
    Mutant(
        "services/web/shield.py",
        "            return UNKNOWN",
        "            return None",
        "tests/web/test_shield.py::test_a_tab_is_told_why_nobody_sits_there",
    ),
    Mutant(
        "services/web/doors.py",
        "            if session and not Conversations(session).has(ConversationId(asked)):",
        "            if False:",
        "tests/web/test_doors.py::test_where_somebody_was_leads_nobody_else",
    ),
    Mutant(
        "services/chat/service.py",
        "                if again.body == prompt:",
        "                if False:",
        "tests/store/test_chat.py::test_a_prompt_that_was_refused_and_stored_all_the_same_is_not_asked_twice",
    ),
    Mutant(
        "services/chat/service.py",
        "        if left and left.state.is_open and left.prompt_id == prompt_id:",
        "        if False:",
        "tests/store/test_chat.py::test_a_prompt_that_was_refused_and_stored_all_the_same_is_not_asked_twice",
    ),
    Mutant(
        "services/chat/service.py",
        "            if known := self.store.cached(conversation_id):\n                return known\n",
        "",
        "tests/store/test_chat.py::test_what_was_read_stays_while_the_database_is_away",
    ),
    Mutant(
        "services/store/conversations.py",
        "        self._unwanted.add(conversation_id)\n",
        "",
        "tests/store/test_chat.py::test_a_first_prompt_that_was_refused_and_stored_all_the_same_goes_again",
    ),
    Mutant(
        "pages/_session.py",
        "    return tuple(_kept().refusals)\n",
        "    said, _kept().refusals = tuple(_kept().refusals), []\n    return said\n",
        "tests/pages/test_chat_page.py::test_a_prompt_that_was_refused_stays_when_its_run_is_cut_short",
    ),
    Mutant(
        "pages/_session.py",
        '        setattr(runner, "_execing", False)',
        "        pass",
        "tests/pages/test_chat_page.py::test_a_callback_whose_run_was_replaced_goes_to_its_end",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "    if is_here and not held:",
        "    if False:",
        "tests/pages/test_chat_page.py::test_a_fresh_page_becomes_the_conversation_though_the_run_that_sent_was_replaced",
    ),
    Mutant(
        "services/bootstrap.py",
        "        noting.forget(session.user_id)",
        "        pass",
        "tests/unit/test_bootstrap.py::test_what_was_noted_leaves_the_memory_with_the_last_session_of_its_person",
    ),
    Mutant(
        "services/chat/noting.py",
        "lambda last: last.user_id == user_id",
        "lambda last: True",
        "tests/unit/test_bootstrap.py::test_what_was_noted_leaves_the_memory_with_the_last_session_of_its_person",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "if is_at_work() or callbacks_ended() != ended or any(expected):",
        "if is_at_work() or any(expected):",
        "tests/pages/test_chat_page.py::test_what_a_callback_did_while_the_page_was_drawn_is_drawn_as_well",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "is_done = callbacks_ended() != ended and not is_at_work()",
        "is_done = False",
        "tests/journeys/test_outage.py::test_what_is_pressed_is_done_whole_though_another_press_follows",
    ),
    Mutant(
        "pages/_session.py",
        '    if was_running:\n        setattr(runner, "_execing", False)',
        '    if False:\n        setattr(runner, "_execing", False)',
        "tests/journeys/test_outage.py::test_what_is_pressed_is_done_whole_though_another_press_follows",
    ),
    Mutant(
        "pages/_session.py",
        "        kept.at_work += 1",
        "        pass",
        "tests/pages/test_chat_page.py::test_a_prompt_whose_run_was_replaced_while_it_was_sent_comes_back",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "    st.session_state.followed = thread.conversation.id, tip.id",
        "    st.session_state.followed = None",
        "tests/pages/test_chat_page.py::test_how_a_reply_ended_is_told_until_something_else_is_read",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "        st.session_state.followed = turn.conversation_id, None\n\n",
        "\n",
        "tests/pages/test_chat_page.py::test_how_a_reply_ended_is_told_until_something_else_is_read",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "if is_drawn and (is_done",
        "if (is_done",
        "tests/pages/test_chat_page.py::test_what_has_just_been_drawn_gets_to_the_browser_before_it_is_drawn_anew",
    ),
    Mutant(
        "services/chat/service.py",
        "        if turn is None and _awaits_reply(thread):  # it may",
        "        if False:  # it may",
        "tests/store/test_chat.py::test_a_reply_that_ends_while_its_conversation_is_opened_is_read",
    ),
    Mutant(
        "streamlit_app.py",
        "    if not bootstrap.life().is_open and not bootstrap.life().is_away:",
        "    if not bootstrap.life().is_open:",
        "tests/pages/test_outage.py::test_what_was_read_stays_on_the_page",
    ),
    Mutant(
        "pages/_session.py",
        "    except StoreUnavailable:\n        outage.wait()\n        return st.stop()",
        "    except StoreUnavailable:\n        return None",
        "tests/pages/test_outage.py::test_a_tab_that_comes_meanwhile_is_not_asked_to_sign_in",
    ),
    Mutant(
        "services/chat/service.py",
        "thread.through(tip.id) if tip.role is Role.USER else thread.up_to(tip.id)",
        "thread.up_to(tip.id)",
        "tests/store/test_chat.py::test_who_saw_the_reply_coming_may_go_on_before_it_is_drawn",
    ),
    Mutant(
        "services/chat/service.py",
        "            if thread.tip_id != message_id:\n                raise NotFound\n",
        "",
        "tests/store/test_chat.py::test_a_reply_that_is_not_there_is_not_written_again",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "elif is_free and refusal.place == place:",
        "elif is_free:",
        "tests/pages/test_chat_page.py::test_a_prompt_that_was_refused_is_not_put_into_another_conversation",
    ),
    Mutant(
        "services/chat/service.py",
        "if has_ended:  # while",
        "if False:  # while",
        "tests/store/test_chat.py::test_a_reply_that_ends_while_its_thread_is_read_is_read_with_it",
    ),
    # what a reader waits for
    Mutant(
        "pages/_parts/turns.py",
        "yield is_ours or not is_patient",
        "yield True",
        "tests/pages/test_chat_page.py::test_the_rest_of_a_page_waits_for_those_of_others[while another is drawn]",
    ),
    Mutant(
        "services/embedded/folders.py",
        "tempfile.TemporaryFile(dir=folder)",
        '(folder / "a").open("wb")',
        "tests/unit/test_embedded.py::test_apps_that_start_at_once_share_a_cache_folder",
    ),
    Mutant(
        "services/web/frontend.py",
        'coming += _IMPORT.findall((scripts / name).read_text("utf-8"))',
        "pass",
        "tests/web/test_frontend.py::test_with_an_element_comes_all_that_it_imports",
    ),
    Mutant(
        "services/web/frontend.py",
        '"gzip" not in Headers(scope=scope).get("accept-encoding", "")',
        "False",
        "tests/web/test_frontend.py::test_all_else_is_streamlits",
    ),
    Mutant(
        "services/chat/live_turn.py",
        "_readers.discard(reader)",
        "pass",
        "tests/unit/test_live_turn.py::test_many_readers_share_what_the_server_can_draw",
    ),
    Mutant(
        "assets/style.css",
        '\n.st-key-undo [class*="st-key-undo-"] { background',
        '\n[class*="st-key-undo-"] { background',
        "tests/journeys/test_reading.py::test_the_way_back_from_a_new_start_stays_as_long_as_it_leads_there",
    ),
    Mutant(
        "assets/page/place.js",
        "page.scrollTop = page.scrollHeight;",
        "",
        "tests/journeys/test_place.py::test_the_end_of_a_conversation_is_in_view_from_its_first_frame",
    ),
    Mutant(
        "assets/page/place.js",
        "if (isTrusted && !isTyping) until = 0;",
        "",
        "tests/journeys/test_place.py::test_who_moves_the_page_stays_where_they_are",
    ),
    # facts about the person
    Mutant(
        "services/memory/facts.py",
        "len(texts) <= _MOST\n",
        "True\n",
        "tests/unit/test_memory_facts.py::test_rubbish_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        "        and len(set(numbers)) == len(numbers)\n",
        "",
        "tests/unit/test_memory_facts.py::test_rubbish_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        "all(1 <= number <= len(shown) for number in numbers)",
        "all(number <= len(shown) for number in numbers)",
        "tests/unit/test_memory_facts.py::test_rubbish_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        " and not users.isdisjoint(stems(text))",
        "",
        "tests/unit/test_memory_facts.py::test_what_only_the_assistant_said_is_not_noted",
    ),
    Mutant(
        "services/memory/facts.py",
        "each in exchange if each.role is Role.USER for word",
        "each in exchange for word",
        "tests/unit/test_memory_facts.py::test_what_only_the_assistant_said_is_not_noted",
    ),
    Mutant(
        "services/memory/facts.py",
        "if essence not in seen and",
        "if",
        "tests/unit/test_memory_facts.py::test_what_is_known_is_not_noted_again",
    ),
    Mutant(
        "services/memory/facts.py",
        "            seen.add(essence)\n",
        "",
        "tests/unit/test_memory_facts.py::test_what_is_said_twice_is_noted_once",
    ),
    Mutant(
        "services/memory/facts.py",
        "        and not _MARKUP.search(text)\n",
        "",
        "tests/unit/test_memory_facts.py::test_rubbish_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        "        and all(sign.isprintable() or sign in _JOINERS for sign in text)\n",
        "",
        "tests/unit/test_memory_facts.py::test_rubbish_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        "len(text) <= LONGEST",
        "len(text) <= 2 * LONGEST",
        "tests/unit/test_memory_facts.py::test_a_fact_may_be_as_long_as_that",
    ),
    Mutant(
        "services/memory/facts.py",
        "except (ValidationError, UnicodeEncodeError)",
        "except ValidationError",
        "tests/unit/test_memory_facts.py::test_any_answer_is_read_or_changes_nothing",
    ),
    Mutant(
        "services/memory/facts.py",
        "if size <= _LEAST_BYTES:",
        "if True:",
        "tests/unit/test_memory_facts.py::test_a_long_prompt_is_cut_further_where_the_context_is_small",
    ),
    Mutant(
        "services/memory/facts.py",
        "map(blocks.said, messages)",
        "(each.body for each in messages)",
        "tests/unit/test_memory_facts.py::test_what_is_quoted_cannot_end_its_block_nor_speak_for_itself",
    ),
    Mutant(
        "services/memory/facts.py",
        "{' '.join(fact.text.split())}\"",
        '{fact.text}"',
        "tests/unit/test_memory_facts.py::test_a_hostile_fact_stays_on_its_line",
    ),
    Mutant(
        "services/chat/noting.py",
        "if answer.is_cut or not is_wanted():",
        "if answer.is_cut:",
        "tests/store/test_facts.py::test_who_switches_it_off_meanwhile_keeps_nothing",
    ),
    Mutant(
        "services/chat/noting.py",
        "            if last and last.prompt_id == prompt_id:\n                return False\n",
        "",
        "tests/store/test_facts.py::test_a_prompt_that_is_answered_anew_is_not_asked_about_again",
    ),
    Mutant(
        "services/chat/noting.py",
        "            if conversation_id in self._coming:\n",
        "            if False:\n",
        "tests/store/test_facts.py::test_followers_hear_done_before_it_is_asked_and_may_go_on",
    ),
    Mutant(
        "services/chat/noting.py",
        "thread.is_whole and all(said.is_verified for said in exchange)",
        "True",
        "tests/store/test_facts.py::test_what_cannot_be_read_is_not_looked_through",
    ),
    Mutant(
        "services/chat/noting.py",
        ", space_id=conversation.space_id\n",
        "\n",
        "tests/store/test_facts.py::test_what_is_said_in_a_space_is_kept_there",
    ),
    Mutant(
        "services/chat/noting.py",
        "for fact in store.facts() if fact.holds_in(thread.conversation)",
        "for fact in store.facts()",
        "tests/store/test_facts.py::test_facts_of_elsewhere_are_neither_shown_nor_replaced",
    ),
    Mutant(
        "services/chat/afterwards.py",
        "if reply.failure or reply.is_stopped or not self.keeps_facts():",
        "if reply.failure or not self.keeps_facts():",
        "tests/store/test_facts.py::test_a_reply_that_was_stopped_is_not_looked_through",
    ),
    Mutant(
        "services/chat/service.py",
        "self.memories is not None and bool(self.preferences().keeps_facts)",
        "self.memories is not None",
        "tests/store/test_facts.py::test_nothing_is_asked_nor_noted_unless_it_is_wanted",
    ),
    Mutant(
        "services/chat/service.py",
        "        for aside in self._asides:\n            aside.turns.stop(self.store, within)\n",
        "",
        "tests/store/test_facts.py::test_who_leaves_has_no_more_noted",
    ),
    Mutant(
        "services/chat/service.py",
        "noted = tuple(one for one in noted if one.fact in kept)",
        "pass",
        "tests/store/test_facts.py::test_what_was_changed_since_is_not_taken_back_but_no_longer_shown",
    ),
    Mutant(
        "services/store/memories.py",
        "since=document.since or row.created_at",
        "since=row.created_at",
        "tests/store/test_facts.py::test_what_was_noted_can_be_taken_back",
    ),
    Mutant(
        "pages/_parts/facts.py",
        " and one.fact.source_id == asked.id",
        "",
        "tests/pages/test_facts_page.py::test_it_is_gone_with_the_next_prompt",
    ),
    Mutant(
        "pages/_parts/facts.py",
        "{escape(one.fact.text)}",
        "{one.fact.text}",
        "tests/pages/test_facts_page.py::test_what_was_noted_can_be_undone",
    ),
    Mutant(
        "pages/_parts/facts.py",
        "if len(replies) not in _FIRST_REPLIES or",
        "if",
        "tests/pages/test_facts_page.py::test_it_is_offered_in_one_conversation_and_not_at_its_first_reply",
    ),
    Mutant(
        "pages/_parts/facts.py",
        'st.session_state.setdefault("offered-in", conversation_id) != conversation_id',
        "False",
        "tests/pages/test_facts_page.py::test_it_is_offered_in_one_conversation_and_not_at_its_first_reply",
    ),
    Mutant(
        "services/domain.py",
        "since=at, source_id=None,",
        "since=at,",
        "tests/pages/test_facts_page.py::test_a_fact_can_be_changed_and_is_then_its_persons_own",
    ),
    Mutant(
        "services/domain.py",
        "since=at, source_id=None,",
        "since=at,",
        "tests/pages/test_facts_page.py::test_what_was_noted_and_then_changed_by_its_person_is_told_whatever_is_kept",
    ),
    Mutant(
        "pages/_parts/scoped_facts.py",
        "if any(fact.conversation_id == conversation.id for fact in person.memories.facts()):",
        "if person.memories.facts():",
        "tests/journeys/test_facts.py::test_a_conversation_has_facts_that_hold_nowhere_else",
    ),
    Mutant(
        "pages/_parts/scoped_facts.py",
        'key=f"scoped-fact-{fact.id}"',
        'key=f"fact-{fact.id}"',
        "tests/pages/test_facts_page.py::test_the_dialog_opens_beside_the_list_of_all_facts",
    ),
    Mutant(
        "pages/_parts/facts.py",
        "linked_id = fact.conversation_id or fact.source_conversation_id",
        "linked_id = fact.source_conversation_id",
        "tests/pages/test_facts_page.py::test_each_fact_has_where_it_came_from_and_when",
    ),
    Mutant(
        "pages/_parts/facts.py",
        "    if fact != seen:\n",
        "    if False:\n",
        "tests/pages/test_facts_page.py::test_what_another_tab_wrote_meanwhile_is_shown_before_it_is_replaced",
    ),
    Mutant(
        "pages/_parts/facts.py",
        "    st.session_state[_SWITCH] = is_on",
        "    st.session_state.setdefault(_SWITCH, is_on)",
        "tests/pages/test_facts_page.py::test_a_switch_that_could_not_be_stored_goes_back",
    ),
    # other conversations
    Mutant(
        "services/chat/planning.py",
        " if setup.preferences.recalls_elsewhere else None",
        "",
        "tests/store/test_elsewhere.py::test_whoever_does_not_want_it_has_nothing_of_elsewhere_sent",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "            and its.space_id == space_id\n",
        "",
        "tests/store/test_elsewhere.py::test_a_space_keeps_to_itself",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "self._indexes[conversation.space_id].search",
        "self._indexes[None].search",
        "tests/store/test_elsewhere.py::test_a_space_keeps_to_itself",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        " and hit.id not in self._older]",
        "]",
        "tests/store/test_elsewhere.py::test_a_reply_that_was_written_again_is_left_out",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "far[:_MOST_ELSEWHERE]",
        "far",
        "tests/unit/test_elsewhere.py::test_only_the_first_places_are_for_what_was_said_elsewhere",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "return known.up_to_seq if known else 0",
        "return 0",
        "tests/store/test_elsewhere.py::test_only_what_is_new_is_read_again",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "        self._listed = {}  # a reading that is under way may have looked before something was moved\n",
        "",
        "tests/unit/test_elsewhere.py::test_what_was_moved_away_while_others_are_read_is_not_brought_back",
    ),
    Mutant(
        "services/chat/planning.py",
        "self._opened(elsewhere, recalled_elsewhere(brought), thread, is_final=is_final)",
        "self._opened(elsewhere, recalled_elsewhere(brought), thread)",
        "tests/store/test_elsewhere.py::test_no_turn_is_begun_without_what_was_brought_back",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "            self._gone |= unknown - some.keys()\n",
        "",
        "tests/unit/test_elsewhere.py::test_what_is_gone_is_asked_for_once_until_the_next_prompt",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "        self._gone = set()\n        self._read_on()",
        "        self._read_on()",
        "tests/unit/test_elsewhere.py::test_what_is_gone_is_asked_for_once_until_the_next_prompt",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        " and conversation_id not in self._dropped:",
        ":",
        "tests/unit/test_elsewhere.py::test_what_was_moved_while_it_was_read_is_read_again",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "            if conversation_id in self._known:\n",
        "            if False:\n",
        "tests/unit/test_elsewhere.py::test_nothing_of_what_is_discarded_stays_in_memory",
    ),
    Mutant(
        "services/chat/service.py",
        "            self.elsewhere.forget(conversation_id)\n",
        "            pass\n",
        "tests/store/test_elsewhere.py::test_what_is_discarded_leaves_the_memory_at_once",
    ),
    Mutant(
        "services/store/turns.py",
        'found[turn_id] = opened.get(turn_id, "")',
        'found[turn_id] = ""',
        "tests/store/test_conversations.py::test_all_receipts_that_are_asked_for_are_there_however_few_are_kept",
    ),
    Mutant(
        "services/store/turns.py",
        "if len(text.encode()) > LARGEST_TEXT:",
        "if len(text) > LARGEST_TEXT:",
        "tests/store/test_conversations.py::test_a_receipt_that_is_too_long_to_be_kept_prevents_no_turn",
    ),
    Mutant(
        "services/chat/elsewhere.py",
        "        self._read_on().join(_PATIENCE)\n",
        "        self._read_on().join()\n",
        "tests/unit/test_elsewhere.py::test_a_prompt_waits_for_no_slow_reading",
    ),
    Mutant(
        "assets/style.css",
        '.stApp:has(.st-key-stop[data-stale="false"]) :is(.st-key-noted, .st-key-facts-offer):not(:has([data-stale="false"])) { display: none }\n',
        "",
        "tests/journeys/test_facts.py::test_a_fact_is_offered_noted_known_elsewhere_and_undone",
    ),
    # temporary chats
    Mutant(
        "services/store/turns.py",
        "        return _begin(self._session, turn, _Prompt())",
        "        return _begin(self._session, turn, _Prompt(message_id=turn.prompt_id))",
        "tests/store/test_temporary.py::test_a_temporary_chat_writes_only_what_it_costs",
    ),
    Mutant(
        "services/store/turns.py",
        "        answer = _finish(self._session, ending, _Reply())",
        "        return",
        "tests/store/test_temporary.py::test_leaving_stops_and_settles_what_is_coming_and_forgets_it",
    ),
    Mutant(
        "services/store/turns.py",
        "        return _checkpoint(self._session, turn_id, None, lease_seconds)",
        "        return True",
        "tests/store/test_temporary.py::test_its_lease_is_prolonged_while_a_reply_is_coming",
    ),
    Mutant(
        "services/bootstrap.py",
        "            memories=self.memories if reads_facts else None,",
        "            memories=self.memories,",
        "tests/store/test_temporary.py::test_it_reads_facts_only_if_allowed_and_notes_none",
    ),
    Mutant(
        "services/bootstrap.py",
        "            noting=NotNoting(),\n",
        "",
        "tests/store/test_temporary.py::test_it_reads_facts_only_if_allowed_and_notes_none",
    ),
    Mutant(
        "services/bootstrap.py",
        "            store=store,\n            live_turns=LiveTurns(),",
        "            store=self.conversations,\n            live_turns=LiveTurns(),",
        "tests/store/test_temporary.py::test_a_temporary_chat_writes_only_what_it_costs",
    ),
    Mutant(
        "services/bootstrap.py",
        "        self._shared.temporary.add(begun)\n",
        "",
        "tests/store/test_temporary.py::test_who_signs_out_ends_theirs",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        self.conversations.end()  # first: nothing begins any more\n",
        "",
        "tests/unit/test_temporary.py::test_once_it_is_over_nothing_holds_what_was_said",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        self._chat.live_turns.forget()\n",
        "",
        "tests/unit/test_temporary.py::test_once_it_is_over_nothing_holds_what_was_said",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        self._chat.recollection.forget(self.id)\n",
        "",
        "tests/unit/test_temporary.py::test_once_it_is_over_nothing_holds_what_was_said",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        self._chat.counting.forget(self.id)\n",
        "",
        "tests/unit/test_temporary.py::test_once_it_is_over_nothing_holds_what_was_said",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        self.stop(within)\n        self._chat.live",
        "        self._chat.live",
        "tests/unit/test_temporary.py::test_ending_stops_what_is_coming_and_settles_it",
    ),
    Mutant(
        "services/chat/temporary.py",
        "        return now - self._seen_at > _ABSENCE_SECONDS",
        "        return now != self._seen_at",
        "tests/unit/test_temporary.py::test_a_chat_is_ended_once_its_page_was_away_for_long",
    ),
    Mutant(
        "services/chat/temporary.py",
        "for chat in self._all() if chat.owner == owner]",
        "for chat in self._all()]",
        "tests/unit/test_temporary.py::test_who_leaves_a_device_ends_those_of_that_device_alone",
    ),
    Mutant(
        "services/store/temporary.py",
        "            if self._thread:\n                raise Stale\n",
        "",
        "tests/unit/test_temporary.py::test_a_first_prompt_that_is_sent_twice_takes_nothing_of_the_first_away",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "    if new := temporary.began_meanwhile(held):",
        "    if new := None:",
        "tests/pages/test_temporary.py::test_a_prompt_that_is_sent_while_the_switch_is_heard_is_not_kept",
    ),
    Mutant(
        "pages/_session.py",
        "    kept.left.add(place)\n",
        "",
        "tests/pages/test_temporary.py::test_what_is_refused_once_it_was_left_is_said_on_no_other_page",
    ),
    Mutant(
        "pages/_parts/temporary.py",
        "        if held := here():\n            _begin(",
        "        if held := here():\n            _end()\n            _begin(",
        "tests/pages/test_temporary.py::test_it_stays_temporary_where_facts_cannot_be_allowed",
    ),
    Mutant(
        "pages/_parts/scoped_facts.py",
        "if opened is None or is_other or",
        "if opened is None or",
        "tests/pages/test_facts_page.py::test_a_dialog_shows_nothing_of_the_one_before_it_though_no_run_lies_between_them",
    ),
    Mutant(
        "pages/_parts/space_dialogs.py",
        "or opened.space.id != space.id ",
        "",
        "tests/pages/test_spaces.py::test_a_dialog_shows_nothing_of_another_space_though_no_run_lies_between_them",
    ),
    Mutant(
        "pages/_parts/preferences.py",
        "if tokens != seen.context:",
        "if tokens != now.context_tokens:",
        "tests/pages/test_choices_page.py::test_sizes_and_the_policy_of_another_tab_stay_where_this_one_changed_something_else",
    ),
    Mutant(
        "services/store/temporary.py",
        "            self._receipts.clear()\n",
        "",
        "tests/unit/test_temporary.py::test_once_it_is_over_nothing_holds_what_was_said",
    ),
    Mutant(
        "services/store/temporary.py",
        "        if time.monotonic() < self._held_until:",
        "        if False:",
        "tests/unit/test_temporary.py::test_two_replies_do_not_come_at_once_nor_after_what_was_not_seen",
    ),
    Mutant(
        "services/store/temporary.py",
        "        if now.conversation.rev != seen.conversation.rev:",
        "        if False:",
        "tests/unit/test_temporary.py::test_two_replies_do_not_come_at_once_nor_after_what_was_not_seen",
    ),
    Mutant(
        "services/store/temporary.py",
        "        if self.is_over or not self._books",
        "        if not self._books",
        "tests/unit/test_temporary.py::test_a_turn_that_begins_while_it_ends_calls_no_model",
    ),
    Mutant(
        "services/store/temporary.py",
        "self.id, TITLE, policy",
        "self.id, title, policy",
        "tests/unit/test_temporary.py::test_its_title_says_nothing_of_what_was_said",
    ),
    Mutant(
        "pages/_parts/temporary.py",
        'if (not is_here or "destination" in st.session_state) and',
        "if not is_here and",
        "tests/pages/test_temporary.py::test_leaving_ends_it",
    ),
    Mutant(
        "pages/_parts/temporary.py",
        '    is_here = not page.url_path and not {"c", SPACE} & set(st.query_params)',
        "    is_here = not page.url_path",
        "tests/pages/test_temporary.py::test_leaving_ends_it",
    ),
    Mutant(
        "pages/_parts/temporary.py",
        '    is_here = not page.url_path and not {"c", SPACE} & set(st.query_params)',
        '    is_here = not {"c", SPACE} & set(st.query_params)',
        "tests/pages/test_temporary.py::test_leaving_ends_it",
    ),
    Mutant(
        "pages/_parts/temporary.py",
        "        held = _begin(reads_facts=held.reads_facts, in_place_of=held)\n",
        "        held = None\n",
        "tests/pages/test_temporary.py::test_a_chat_whose_page_was_away_begins_anew_and_stays_temporary",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "        chat = (held or person).chat  #",
        "        chat = person.chat  #",
        "tests/pages/test_temporary.py::test_what_is_said_is_stored_nowhere_and_no_address_leads_to_it",
    ),
    Mutant(
        "pages/_parts/turns.py",
        "    if is_here and not held:",
        "    if is_here:",
        "tests/pages/test_temporary.py::test_what_is_said_is_stored_nowhere_and_no_address_leads_to_it",
    ),
    Mutant(
        "services/bootstrap.py",
        "        shared.temporary.stop(within=0.2)\n",
        "",
        "tests/unit/test_bootstrap.py::test_what_is_coming_in_temporary_chats_is_stopped_with_the_process",
    ),
    Mutant(
        "services/bootstrap.py",
        "        temporary.end_of(session.id)\n        if person",
        "        if person",
        "tests/journeys/test_temporary.py::test_whoever_signs_out_has_it_stopped_and_settled_before",
    ),
    Mutant(
        "pages/_parts/browser.py",
        "const store = (draft) => isKept() && localStorage",
        "const store = (draft) => localStorage",
        "tests/journeys/test_temporary.py::test_a_temporary_chat_leaves_no_trace",
    ),
    Mutant(
        "pages/_parts/browser.py",
        'data.place === "temporary" || (data.is_begun',
        "(data.is_begun",
        "tests/journeys/test_temporary.py::test_what_was_typed_before_the_switch_stays_typed_and_is_kept_no_longer",
    ),
)


def failure(tree: Path, tests: Sequence[str]) -> str:
    """What *tests* said last if one failed in *tree*, else nothing. Raise SystemExit if they could not be run."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n=0", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{tests} could not be run:\n{ran.stdout[-3000:]}")
    return ran.stdout[-3000:] if ran.returncode else ""


def survivors(tree: Path, mutants: Sequence[Mutant]) -> Iterator[Mutant]:
    """The mutants that no test noticed."""
    for number, mutant in enumerate(mutants, 1):
        began, text = time.monotonic(), mutant.apply(tree)
        is_alive = not failure(tree, [mutant.test])
        (tree / mutant.file).write_text(text)
        word = "SURVIVES" if is_alive else "caught"
        took = time.monotonic() - began
        line = f"{number:3} {word:8} {took:5.1f} s  {mutant.file}: {mutant.old.strip()[:60]!r}"
        sys.stdout.write(f"{line} -> {mutant.new.strip()[:40]!r}  {mutant.test}\n")
        sys.stdout.flush()
        if is_alive:
            yield mutant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if all(word in f"{m.file} {m.test}" for word in words)]
    if not chosen:
        raise SystemExit("No breakage has all these words in its file and its test.")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_BEHIND)
        if said := failure(tree, sorted({mutant.test for mutant in chosen})):
            raise SystemExit(f"The tests do not pass without a mutant either:\n{said}")
        alive = list(survivors(tree, chosen))
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught\n")
    raise SystemExit(bool(alive))


if __name__ == "__main__":
    main()
