-- Failures are selected apart from other audit entries, because strangers can cause any number of them.

alter table audit add column is_failure integer not null default 0;
update audit set is_failure = 1 where json_extract(row, '$.action') like '%.fail';
drop index audit_target;
create index audit_target on audit (target, is_failure, id);
