-- The tables of a deployment in one SQLite file. `row` is the whole row as JSON, with sealed texts. The other columns
-- repeat fields by which rows are found; a column is nullable if its field may be missing. In a table of users' rows,
-- `user_id` is the owner. Times are text in UTC of equal length. Foreign keys are checked at the end of a transaction.

create table accounts (
  key text primary key not null,
  role text not null,
  suspended_at text,
  deleted_at text,
  is_ended integer not null,
  row text not null
) strict;
create index accounts_deleted_at on accounts (deleted_at);

create table credentials (
  key text primary key not null,
  lookup text not null,
  user_id text,
  expires_at text,
  row text not null
) strict;
create index credentials_lookup on credentials (lookup);
create index credentials_expires_at on credentials (expires_at) where expires_at is not null;

create table sessions (
  key text primary key not null,
  id text not null,
  user_id text not null,
  ends_at text not null,
  row text not null,
  foreign key (user_id) references accounts (key) deferrable initially deferred
) strict;
create index sessions_id on sessions (id);
create index sessions_user_id on sessions (user_id);
create index sessions_ends_at on sessions (ends_at);

create table invitations (
  key text primary key not null,
  code_hash text not null,
  used_by text,
  expires_at text not null,
  row text not null
) strict;
create index invitations_code_hash on invitations (code_hash);

create table throttles (key text primary key not null, window_ends text not null, row text not null) strict;
create index throttles_window_ends on throttles (window_ends);

create table nonces (key text primary key not null, seen_at text not null, row text not null) strict;
create index nonces_seen_at on nonces (seen_at);

create table audit (key text primary key not null, id text not null, target text, row text not null) strict;
create index audit_id on audit (id);
create index audit_target on audit (target, id);

create table backup (key text primary key not null, row text not null) strict;
create table root_key (key text primary key not null, row text not null) strict;
create table settings (key text primary key not null, row text not null) strict;
create table models (key text primary key not null, row text not null) strict;
create table deployment (key text primary key not null, row text not null) strict;

create table budgets (user_id text not null, key text not null, row text not null, primary key (user_id, key)) strict;
create table counts (user_id text not null, key text not null, row text not null, primary key (user_id, key)) strict;

create table conversations (
  user_id text not null,
  key text not null,
  state text not null,
  space_id text,
  destroy_at text,
  pinned_at text,
  updated_at text not null,
  row text not null,
  primary key (user_id, key)
) strict;
create index conversations_updated_at on conversations (user_id, destroy_at, updated_at);
create index conversations_destroy_at on conversations (destroy_at) where destroy_at is not null;

create table messages (
  user_id text not null,
  key text not null,
  conversation_id text not null,
  seq integer not null,
  parent_id text,
  row text not null,
  foreign key (user_id, conversation_id) references conversations (user_id, key) deferrable initially deferred,
  primary key (user_id, key)
) strict;
create index messages_seq on messages (user_id, conversation_id, seq);
create index messages_parent_id on messages (user_id, parent_id);

create table thoughts (user_id text not null, key text not null, row text not null, primary key (user_id, key)) strict;

create table pieces (
  user_id text not null,
  key text not null,
  conversation_id text not null,
  message_id text not null,
  attachment_id text not null,
  number integer not null,
  row text not null,
  primary key (user_id, key)
) strict;
create index pieces_message_id on pieces (user_id, message_id, attachment_id, number);
create index pieces_conversation_id on pieces (user_id, conversation_id);

create table discards (
  user_id text not null,
  key text not null,
  conversation_id text not null,
  destroy_at text not null,
  row text not null,
  foreign key (user_id, conversation_id) references conversations (user_id, key) deferrable initially deferred,
  primary key (user_id, key)
) strict;
create index discards_conversation_id on discards (user_id, conversation_id);
create index discards_destroy_at on discards (destroy_at);

create table turns (
  user_id text not null,
  key text not null,
  client_turn_id text not null,
  conversation_id text,
  purpose text not null,
  prompt_id text,
  state text not null,
  begun_at text not null,
  finished_at text,
  lease_until text not null,
  row text not null,
  primary key (user_id, key)
) strict;
create index turns_client_turn_id on turns (user_id, client_turn_id);
create index turns_conversation_id on turns (user_id, conversation_id, begun_at);
create index turns_prompt_id on turns (user_id, conversation_id, prompt_id);
create index turns_open on turns (user_id, lease_until) where finished_at is null;

create table receipts (user_id text not null, key text not null, row text not null, primary key (user_id, key)) strict;

create table documents (
  user_id text not null,
  key text not null,
  kind text not null,
  conversation_id text,
  space_id text,
  epoch integer not null,
  row text not null,
  primary key (user_id, key)
) strict;
create index documents_kind on documents (user_id, kind);
create index documents_conversation_id on documents (user_id, conversation_id);

create table erasures (user_id text not null, key text not null, row text not null, primary key (user_id, key)) strict;

create table ledger (
  user_id text not null,
  key text not null,
  id text not null,
  day text not null,
  row text not null,
  primary key (user_id, key)
) strict;
create index ledger_id on ledger (user_id, id);
create index ledger_day on ledger (user_id, day);

create table days (
  user_id text not null,
  key text not null,
  day text not null,
  row text not null,
  primary key (user_id, key)
) strict;
