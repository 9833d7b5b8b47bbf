-- Steps: sign-ins and account changes in progress in a browser (services/store/steps.py).

create table steps (
  key text primary key not null,
  kind_tag text not null,
  expires_at text not null,
  row text not null
) strict;
create index steps_kind_tag on steps (kind_tag);
create index steps_expires_at on steps (expires_at);
