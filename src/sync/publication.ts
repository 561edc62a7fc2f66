import { type CoderDatabase, failureText, quote } from './coder-database.ts';
import { SyncError } from './sync-error.ts';
import { syncedTables } from './synced-tables.ts';

/** The slot and the publications of one installation in Coder's database. */
export interface ReplicationNames {
  readonly slot: string;
  /** Of the tables whose updates and deletes are replicated. */
  readonly publication: string;
  /** Of a table without primary key, of which inserts are replicated. */
  readonly inserts: string;
}

/**
 * The names of what is made in PostgreSQL, for a slot as the setting `CODER_SLOT` takes it. Two installations that follow the same
 * Coder need two slots.
 */
export function replicationNames(slot: string): ReplicationNames {
  return { slot, publication: slot, inserts: `${slot}_inserts` };
}

/** The tables that the publications must have. */
export interface PublishedTables {
  readonly publication: readonly string[];
  readonly inserts: readonly string[];
}

/** The tables of each publication, of all that are copied or of some. */
export function publishedTables(
  tables: readonly { readonly name: string; readonly via: string }[] = syncedTables,
): PublishedTables {
  const via = (way: string): string[] => tables.filter((table) => table.via === way).map(({ name }) => name);
  return { publication: via('replication'), inserts: via('inserts') };
}

/** The statements that let a role copy and follow Coder's tables. */
export interface GrantOptions {
  readonly role: string;
  readonly database: string;
  /** Undefined for polling, which needs nothing but SELECT. */
  readonly names: ReplicationNames | undefined;
  /** Leaves `api_keys` out. */
  readonly withoutSessions?: boolean;
}

/**
 * The statements that let a role copy and follow Coder's tables: to be read and run by a superuser of PostgreSQL, or by who owns
 * Coder's tables and may create roles.
 *
 * The publications list tables, and neither columns nor rows of them: Coder could not drop a column that a publication lists.
 * Tables that only newer versions of Coder have are passed over where they are not there.
 *
 *   create publication "tasks_service" for table public."users", … with (publish = 'insert, update, delete, truncate');
 *   do $$ begin if to_regclass('public.tasks') is not null then alter publication "tasks_service" add table public."tasks"; …
 *   create publication "tasks_service_inserts" for table public."workspace_build_parameters" with (publish = 'insert, truncate');
 *   select pg_create_logical_replication_slot('tasks_service', 'pgoutput');
 */
export function grantStatements({ role, database, names, withoutSessions = false }: GrantOptions): string[] {
  const tables = syncedTables.filter(({ name, optional }) => !optional && !(withoutSessions && name === 'api_keys'));
  const later = syncedTables.filter(({ optional }) => optional).map(({ name }) => name);
  const listed = (some: readonly string[]): string => some.map((table) => `public.${quote(table)}`).join(', ');
  const user = quote(role);
  const statements = [
    `create role ${user} login${names === undefined ? '' : ' replication'};`,
    `grant connect on database ${quote(database)} to ${user};`,
    `grant usage on schema public to ${user};`,
    `grant select on ${listed(tables.map(({ name }) => name))} to ${user};`,
  ];
  const ifThere = (statement: (table: string) => string): string[] =>
    later.map(
      (table) =>
        `do $$ begin if to_regclass('public.${table}') is not null then ${statement(`public.${quote(table)}`)}; end if; end $$;`,
    );
  statements.push(...ifThere((table) => `grant select on ${table} to ${user}`));
  if (names === undefined) return statements;
  const { publication, inserts } = publishedTables(tables);
  return [
    ...statements,
    `create publication ${quote(names.publication)} for table ${listed(publication)} with (publish = 'insert, update, delete, truncate');`,
    ...ifThere((table) => `alter publication ${quote(names.publication)} add table ${table}`),
    `create publication ${quote(names.inserts)} for table ${listed(inserts)} with (publish = 'insert, truncate');`,
    // The slot comes last: what was written before the publications were there cannot be decoded with them.
    `select pg_create_logical_replication_slot('${names.slot}', 'pgoutput');`,
  ];
}

/**
 * Removes the slot and the publications, as far as the account may.
 *
 *   select pg_drop_replication_slot('tasks_service');
 *   drop publication "tasks_service";
 *
 * @returns what was removed, and the statements that are left to who may run them.
 * @throws {SyncError} when the slot is in use.
 */
export async function dropReplication(
  coder: CoderDatabase,
  names: ReplicationNames,
): Promise<{ readonly removed: readonly string[]; readonly left: readonly string[] }> {
  const removed: string[] = [];
  const left: string[] = [];
  const attempt = async (what: string, statement: string): Promise<void> => {
    try {
      await coder.rows(statement);
      removed.push(what);
    } catch (error) {
      if (codeOf(error) !== '42501') throw new SyncError(`${what} cannot be removed: ${failureText(error)}`, { cause: error });
      left.push(`${statement};`);
    }
  };
  await coder.rows('set default_transaction_read_only = off');
  const [slot] = await coder.rows('select s.active_pid from pg_replication_slots as s where s.slot_name = $1', [names.slot]);
  if (slot !== undefined) {
    const [reader = null] = slot;
    if (reader !== null)
      throw new SyncError(`the slot ${names.slot} is read by process ${reader}: stop the service that follows it first`);
    await attempt(`slot ${names.slot}`, `select pg_drop_replication_slot('${names.slot}')`);
  }
  for (const publication of [names.publication, names.inserts]) {
    const found = await coder.rows('select 1 from pg_publication as p where p.pubname = $1', [publication]);
    if (found.length > 0) await attempt(`publication ${publication}`, `drop publication ${quote(publication)}`);
  }
  return { removed, left };
}

/** PostgreSQL's code of an error, such as 42501 for rights that are missing. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
