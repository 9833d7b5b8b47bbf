-- Former addresses: look-up values of addresses that users may take back (services/crypto/credentials.py).

create table former_addresses (
  key text primary key not null,
  user_id text not null,
  expires_at text not null,
  row text not null
) strict;
create index former_addresses_user_id on former_addresses (user_id);
create index former_addresses_expires_at on former_addresses (expires_at);
