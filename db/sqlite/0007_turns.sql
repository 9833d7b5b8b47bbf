-- Each conversation names its newest turn, so that turns are not ordered by a clock that may be set back.

update conversations set row = json_set(row, '$.newest_turn_id', (
  select key from turns
  where turns.user_id = conversations.user_id and conversation_id = conversations.key and purpose = 'reply'
  order by begun_at desc limit 1
));
drop index turns_conversation_id;
alter table turns drop column begun_at;
alter table turns drop column purpose;

-- The open turns of a chat, and those with a partial reply, are found without a scan of all turns of the chat.
create index turns_state on turns (user_id, conversation_id, state);
drop index turns_open;
create index turns_open on turns (user_id, conversation_id, lease_until) where finished_at is null;
