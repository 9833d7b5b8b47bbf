-- Prices of models, and the models on offer, as set by admins. The app multiplies tokens by prices and stores amounts, so a
-- new price changes neither existing reservations nor entries of the ledger.

create table private.model_settings (
  model public.model_name primary key,
  -- the price of a million tokens, in micro-dollars; null: the price that the app knows
  input_micro bigint check (input_micro between 0 and 1e10),
  cached_input_micro bigint check (cached_input_micro between 0 and 1e10),
  output_micro bigint check (output_micro between 0 and 1e10),
  is_offered boolean not null default true,
  check (num_nulls(input_micro, cached_input_micro, output_micro) in (0, 3)),
  check (cached_input_micro <= input_micro)   -- reservations assume uncached input, so cached input may not cost more
);

-- Return the admins' settings of models by name, for the app's processes; `revision` is a digest of the settings.
create function private.model_settings() returns jsonb language sql stable begin atomic
  select settings || jsonb_build_object('ok', true, 'revision', private.sha(settings::text))
  from (
    select jsonb_build_object('refuses_unknown_prices', (select refuses_unknown_prices from private.settings),
      'by_name', (
        select coalesce(jsonb_object_agg(model, jsonb_build_object('is_offered', is_offered,
          'prices', case when input_micro is not null then to_jsonb(known) end)), '{}')
        from private.model_settings known)) as settings
  ) made;
end;

-- Change a model's prices (null: the price that the app knows), or put the model on offer or withdraw it; *changes* maps
-- columns to values.
create function private.set_model(me uuid, model_name text, changes public.free_text) returns jsonb language plpgsql as $$
declare
  before private.model_settings;
  after private.model_settings;
begin
  insert into private.model_settings (model) values (model_name) on conflict do nothing;
  select * into before from private.model_settings where model = model_name for no key update;
  perform private.require_admin(me);
  after := jsonb_populate_record(before, changes::jsonb);
  update private.model_settings set input_micro = after.input_micro, cached_input_micro = after.cached_input_micro,
    output_micro = after.output_micro, is_offered = after.is_offered
  where model = model_name returning * into after;
  perform private.note_changes(me, 'model.set', null, to_jsonb(before), to_jsonb(after),
    jsonb_build_object('model', model_name));
  return '{"ok": true}';
end $$;
