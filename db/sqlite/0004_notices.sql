-- Notices: what users are told of their ways in, on each page until they dismiss it.

create table notices (
  user_id text not null,
  key text not null,
  kind text not null,
  row text not null,
  primary key (user_id, key)
) strict;
