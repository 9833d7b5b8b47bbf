-- Prices and offers of models, as an admin sets them. The app multiplies tokens by prices, and stores amounts: a change of
-- a price changes no turn that was reserved, and no entry of the ledger.

create table private.model_settings (
  model text primary key check (model ~ '^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}$'),
  input_micro bigint check (input_micro between 0 and 1e10),       -- for a million tokens; null: the price that the app knows
  cached_input_micro bigint check (cached_input_micro between 0 and 1e10),
  output_micro bigint check (output_micro between 0 and 1e10),
  is_offered boolean not null default true,
  check (num_nulls(input_micro, cached_input_micro, output_micro) in (0, 3))
);

-- What admins set of models, for the app's processes.
create function private.model_settings() returns jsonb language plpgsql stable as $$
begin
  return jsonb_build_object('ok', true,
    'models', (select coalesce(jsonb_agg(to_jsonb(model_settings)), '[]') from private.model_settings),
    'refuses_unknown_prices', (select refuses_unknown_prices from private.settings));
end $$;

-- Set the price of a model if *sets_price* (nulls: that which the app knows), and whether it is offered (null: unchanged).
-- *every_model*: the names that the app knows, with commas between; the last of them that is offered stays.
create function private.set_model(
  me uuid, model_name text, sets_price boolean, new_input_micro bigint, new_cached_input_micro bigint,
  new_output_micro bigint, offered boolean, every_model public.free_text
) returns jsonb language plpgsql as $$
declare
  known private.model_settings;
  changed private.model_settings;
begin
  perform from private.settings for no key update;   -- of two who switch off the last two models, one is refused
  perform private.require_admin(me);
  if not offered and not exists (
    select from unnest(string_to_array(every_model, ',')) other
    where other <> model_name
      and not exists (select from private.model_settings where model = other and not is_offered)
  ) then
    return private.answer(false, 'last_model');
  end if;
  insert into private.model_settings (model) values (model_name) on conflict do nothing;
  select * into known from private.model_settings where model = model_name;
  update private.model_settings
  set input_micro = case when sets_price then new_input_micro else input_micro end,
    cached_input_micro = case when sets_price then new_cached_input_micro else cached_input_micro end,
    output_micro = case when sets_price then new_output_micro else output_micro end,
    is_offered = coalesce(offered, is_offered)
  where model = model_name
  returning * into changed;
  perform private.note_changes(me, 'model.set', null, to_jsonb(known), to_jsonb(changed),
    jsonb_build_object('model', model_name));
  return '{"ok": true}';
end $$;

-- Have models without a known price refused, or count as free.
create function private.refuse_unknown_prices(me uuid, refused boolean) returns jsonb language plpgsql as $$
begin
  perform private.require_admin(me);
  update private.settings set refuses_unknown_prices = refused where id and refuses_unknown_prices <> refused;
  if found then
    perform private.note(me, 'model.unknown_prices', null,
      jsonb_build_object('refused', jsonb_build_array(not refused, refused)));
  end if;
  return '{"ok": true}';
end $$;
