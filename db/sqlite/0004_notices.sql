-- Notices about users' sign-in methods, shown on each page until the user dismisses them.

create table notices (
  user_id text not null,
  key text not null,
  kind text not null,
  row text not null,
  primary key (user_id, key)
) strict;
