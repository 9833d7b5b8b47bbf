-- Search texts: sealed copies of the messages of a range of seqs, which ends at `last_seq`.

create table search_texts (
  user_id text not null,
  key text not null,
  conversation_id text not null,
  last_seq integer not null,
  row text not null,
  foreign key (user_id, conversation_id) references conversations (user_id, key) deferrable initially deferred,
  primary key (user_id, key)
) strict;
create index search_texts_last_seq on search_texts (user_id, conversation_id, last_seq);
