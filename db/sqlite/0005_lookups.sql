-- Look-up values beside credentials: of former addresses, which expire, and of identities and passkeys
-- (`Lookup` in services/rules/accounts.py).

create table lookups (
  key text primary key not null,
  user_id text not null,
  expires_at text,
  row text not null
) strict;
insert into lookups select key, user_id, expires_at, row from former_addresses;
drop table former_addresses;
create index lookups_user_id on lookups (user_id);
create index lookups_expires_at on lookups (expires_at) where expires_at is not null;
