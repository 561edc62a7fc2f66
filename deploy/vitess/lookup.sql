-- Of which shard a task is, by its id: the table of the lookup vindex `task_owner`, in the keyspace `tasks`. Vitess writes it.
create table `workspace_task_owners` (
  id binary(16) not null,
  keyspace_id varbinary(8) not null,
  primary key (id)
);
