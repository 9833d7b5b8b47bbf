-- Titles by the model: who gave a conversation its title, so that a person's own is never replaced by another.

alter table public.conversations
  -- of the titles there are nobody knows any more who gave them: they count as a person's
  add column titled_by text not null default 'person' check (titled_by in ('words', 'model', 'person'));
alter table public.conversations alter column titled_by set default 'words';   -- the first words of its prompt

-- functions ---------------------------------------------------------------------------------------------

create or replace function private.rename_conversation(conversation uuid, new_title public.sealed, proof text)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'rename_conversation', person::text, conversation::text, private.sha(new_title));
  update public.conversations set title = new_title, titled_by = 'person' where id = conversation and user_id = person;
  return private.answer(found);
end $$;

-- A title that the model made, in place of the first words; `titled` says whether they were still there. Where a
-- rename comes at the same moment, this waits for it and then finds a title that is a person's.
create function private.title_conversation(conversation uuid, new_title public.sealed, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'title_conversation', person::text, conversation::text, private.sha(new_title));
  update public.conversations set title = new_title, titled_by = 'model'
  where id = conversation and user_id = person and titled_by = 'words';
  if found then
    return '{"ok": true, "titled": true}';
  end if;
  return private.answer(exists (select from public.conversations where id = conversation and user_id = person))
    || '{"titled": false}';
end $$;

-- what the API exposes ----------------------------------------------------------------------------------

create function public.title_conversation(conversation uuid, new_title public.sealed, proof text)
returns jsonb language sql set search_path = ''
return private.title_conversation(conversation, new_title, proof);

grant execute on function public.title_conversation, private.title_conversation to authenticated;
