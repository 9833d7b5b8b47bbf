-- What answers in a conversation, and by which instructions: its own choice, else its person's, else the deployment's.
--
-- A person's choices lie together in `profiles.preferences`, sealed. A conversation's model is readable, as it is in the
-- books of each of its turns; its instructions are text, and sealed under its own key.

alter table public.conversations
  -- null: the person's; a name that is no longer offered is passed over by the app
  add column model text check (model ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}$'),
  add column instructions public.sealed;    -- null: the person's

-- functions ---------------------------------------------------------------------------------------------

create function private.set_conversation_model(conversation uuid, new_model text, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'set_conversation_model', person::text, conversation::text,
    private.sha(new_model));
  update public.conversations set model = new_model where id = conversation and user_id = person;
  return private.answer(found);
end $$;

create function private.set_conversation_instructions(conversation uuid, new_instructions public.sealed, proof text)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'set_conversation_instructions', person::text, conversation::text,
    private.sha(new_instructions));
  update public.conversations set instructions = new_instructions where id = conversation and user_id = person;
  return private.answer(found);
end $$;

-- In place of exactly what the app has seen: two tabs that change one choice each lose neither.
create function private.change_preferences(new_preferences public.sealed, replaces public.sealed, proof text)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'change_preferences', person::text,
    private.sha(new_preferences), private.sha(replaces));
  update public.profiles set preferences = new_preferences
  where user_id = person and preferences is not distinct from replaces;
  if not found then
    return '{"ok": false, "reason": "stale"}';
  end if;
  return '{"ok": true}';
end $$;

-- what the API exposes ----------------------------------------------------------------------------------

create function public.set_conversation_model(conversation uuid, new_model text, proof text)
returns jsonb language sql set search_path = ''
return private.set_conversation_model(conversation, new_model, proof);

create function public.set_conversation_instructions(conversation uuid, new_instructions public.sealed, proof text)
returns jsonb language sql set search_path = ''
return private.set_conversation_instructions(conversation, new_instructions, proof);

create function public.change_preferences(new_preferences public.sealed, replaces public.sealed, proof text)
returns jsonb language sql set search_path = ''
return private.change_preferences(new_preferences, replaces, proof);

grant execute on function
  public.set_conversation_model, private.set_conversation_model,
  public.set_conversation_instructions, private.set_conversation_instructions,
  public.change_preferences, private.change_preferences
to authenticated;
