-- Unread replies: up to which message a person has read a conversation, on whatever device.

alter table public.conversations add column read_seq integer not null default 0 check (read_seq >= 0);
update public.conversations set read_seq = last_seq;   -- nobody knows: nothing that was there counts as new

-- functions ---------------------------------------------------------------------------------------------

-- What a person wrote they have read, and what stood before it.
create function private.note_own_prompt() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (
    select from public.messages where conversation_id = new.id and seq = new.last_seq and role = 'user'
  ) then
    new.read_seq := new.last_seq;
  end if;
  return new;
end $$;

create trigger note_own_prompt before update of last_seq on public.conversations
  for each row when (new.last_seq > old.last_seq) execute function private.note_own_prompt();

-- Never back, and not beyond what is there.
create function private.read_conversation(conversation uuid, seq integer, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'read_conversation', person::text, conversation::text, seq::text);
  if (seq > 0) is not true then
    raise exception 'seq out of range' using errcode = 'PT400';
  end if;
  update public.conversations set read_seq = greatest(read_seq, least(seq, last_seq))
  where id = conversation and user_id = person;
  return private.answer(found);
end $$;

-- what the API exposes ----------------------------------------------------------------------------------

create function public.read_conversation(conversation uuid, seq integer, proof text)
returns jsonb language sql set search_path = ''
return private.read_conversation(conversation, seq, proof);

grant execute on function public.read_conversation, private.read_conversation to authenticated;
