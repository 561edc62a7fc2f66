import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { errnoOf } from '../db/database-errors.ts';
import { MigrationError } from './migration-error.ts';
import { type Comparison, type ProjectedTable, projectedTables } from './projected-tables.ts';

/** A trigger that writes the changes of a source table to the outbox. */
interface Trigger {
  /** Ends in a digest of the statement, so that another statement has another name. */
  readonly name: string;
  readonly table: string;
  /** The `create trigger` statement. */
  readonly statement: string;
}

/** The prefix of the names of our triggers; others are left alone. */
const prefix = 'tasks_note_';

/**
 * A session variable that turns the insert triggers off while it is not NULL, for bulk loads, where the triggers would write each
 * workspace to the outbox ten times. Such a session calls `enqueueWorkspaces` itself, in the transaction that inserts the rows,
 * and sets the variable to NULL before the connection goes back to its pool.
 */
export const outboxBypass = 'tasks_session_notes';

/** The triggers that this version of the program needs: for each source table one on insert, one on update and one on delete. */
export const triggers: readonly Trigger[] = Object.entries(projectedTables).flatMap(([name, table]) => [
  trigger(name, 'insert', `if @${outboxBypass} is null then ${guard(table, 'new', note(table, 'new'))}; end if`),
  trigger(name, 'update', noteUpdate(table)),
  trigger(name, 'delete', guard(table, 'old', note(table, 'old'))),
]);

/** The names of {@link triggers}. */
export const triggerNames: readonly string[] = triggers.map(({ name }) => name);

/**
 * Returns the names of the triggers that are missing, so that changes do not reach the outbox. A trigger of another version
 * counts as present: during an upgrade both versions serve. An account without the privilege TRIGGER sees no triggers; the result
 * is empty.
 */
export async function missingTriggers(database: Knex): Promise<string[]> {
  const present = new Set((await presentTriggers(database)).map(withoutDigest));
  if (present.size === 0 && !(await maySeeTriggers(database))) return [];
  return triggerNames.filter((name) => !present.has(withoutDigest(name)));
}

/** Whether the account has the privilege TRIGGER on anything. A server shows an account its own privileges alone. */
async function maySeeTriggers(database: Knex): Promise<boolean> {
  const [rows] = (await database.raw(
    "select 1 from `information_schema`.`user_privileges` as `u` where `u`.`privilege_type` = 'TRIGGER' " +
      "union all select 1 from `information_schema`.`schema_privileges` as `s` where `s`.`privilege_type` = 'TRIGGER' " +
      "union all select 1 from `information_schema`.`table_privileges` as `t` where `t`.`privilege_type` = 'TRIGGER' limit 1",
  )) as [unknown[]];
  return rows.length > 0;
}

function withoutDigest(name: string): string {
  return name.replace(/_[0-9a-f]{8}$/, '');
}

/**
 * Creates the triggers that are missing, then drops those of other versions, and returns whether anything changed.
 *
 * Old and new ones exist together for a moment, so that no change is missed. A change that is written twice does no harm.
 *
 * @throws {MigrationError} when the account lacks a privilege for it.
 */
export async function ensureTriggers(database: Knex): Promise<boolean> {
  const present = new Set(await presentTriggers(database));
  const missing = triggers.filter(({ name }) => !present.has(name));
  for (const { statement } of missing) await create(database, statement);
  const old = [...present].filter((name) => !triggerNames.includes(name));
  for (const name of old) await database.raw('drop trigger if exists ??', [name]);
  return missing.length + old.length > 0;
}

/** Whether the triggers are exactly those of this version, so that {@link ensureTriggers} would change nothing. */
export async function hasExactTriggers(database: Knex): Promise<boolean> {
  const present = new Set(await presentTriggers(database));
  return present.size === triggerNames.length && triggerNames.every((name) => present.has(name));
}

/** Drops all triggers of this program, of any version. */
export async function dropTriggers(database: Knex): Promise<void> {
  for (const name of await presentTriggers(database)) await database.raw('drop trigger if exists ??', [name]);
}

/** The server's error numbers for a missing privilege; 1419 is the one with a binary log. */
const refusals = new Set<unknown>([1142, 1227, 1419]);

async function presentTriggers(database: Knex): Promise<string[]> {
  const [rows] = (await database.raw(
    'select `t`.`trigger_name` as `name` from `information_schema`.`triggers` as `t` where `t`.`trigger_schema` = database()',
  )) as [{ name: string }[]];
  return rows.map(({ name }) => name).filter((name) => name.startsWith(prefix));
}

async function create(database: Knex, statement: string): Promise<void> {
  try {
    await database.raw(statement);
  } catch (error) {
    if (!refusals.has(errnoOf(error))) throw error;
    throw new MigrationError(
      'this account may not make triggers: grant it TRIGGER on the database and, on a server with a binary log (error 1419), set ' +
        'log_bin_trust_function_creators=1; or set MIGRATE_TRIGGERS=false and let the writers note their changes in workspace_changes',
      { cause: error },
    );
  }
}

function trigger(table: string, event: 'insert' | 'update' | 'delete', body: string): Trigger {
  const head = `after ${event} on \`${table}\` for each row`;
  const digest = createHash('sha256').update(`${head} ${body}`).digest('hex').slice(0, 8);
  const name = `${prefix}${table}_${event}_${digest}`;
  return { name, table, statement: `create trigger \`${name}\` ${head} ${body}` };
}

/** `insert into workspace_changes (kind, ref) values (1, new.id)`: without a look-up, see {@link projectedTables}. */
function note({ kind, key }: ProjectedTable, row: 'new' | 'old'): string {
  return `insert into \`workspace_changes\` (\`kind\`, \`ref\`) values (${kind}, ${row}.\`${key}\`)`;
}

function guard({ only }: ProjectedTable, row: 'new' | 'old', statement: string): string {
  return only === undefined ? statement : `if ${row}.\`${only[0]}\` = '${only[1]}' then ${statement}; end if`;
}

/**
 * `if (not (old.id <=> new.id) or …) then insert … new …; if not (old.id <=> new.id) then insert … old …; end if; end if`: an
 * update or upsert that leaves the row as it was writes nothing.
 */
function noteUpdate(table: ProjectedTable): string {
  const moved = differs(table.key, 'exact');
  const changed = [moved, ...Object.entries(table.columns).map(([column, comparison]) => differs(column, comparison))];
  const conditions = [`(${changed.join(' or ')})`];
  if (table.only !== undefined) {
    const [column, value] = table.only;
    conditions.push(`(old.\`${column}\` = '${value}' or new.\`${column}\` = '${value}')`);
  }
  return `if ${conditions.join(' and ')} then ${note(table, 'new')}; if ${moved} then ${note(table, 'old')}; end if; end if`;
}

function differs(column: string, comparison: Comparison): string {
  const value = (row: 'new' | 'old') => {
    const name = `${row}.\`${column}\``;
    if (comparison === 'presence') return `(${name} is null)`;
    return comparison === 'bytes' ? `cast(${name} as binary)` : name;
  };
  return `not (${value('old')} <=> ${value('new')})`;
}
