import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { MigrationError } from './migration-error.ts';
import { type Comparison, type NotedTable, notedTables } from './noted-tables.ts';

/** A trigger that notes the changes of a source table in the outbox. */
export interface Trigger {
  /** Ends in a digest of the statement: what does something else is called something else. */
  readonly name: string;
  readonly table: string;
  /** The `create trigger` statement. */
  readonly statement: string;
}

/** What the names of our triggers begin with; any other trigger is somebody else's. */
const prefix = 'tasks_note_';

/**
 * The variable of a session that notes itself what it inserts: while it is not NULL, inserts are not noted by the triggers. For bulk
 * loads, which would note each workspace ten times. Such a session notes each workspace in the transaction that inserts its rows
 * (`noteWorkspaces`), and sets the variable to NULL before the connection goes back to its pool.
 */
export const notesItself = 'tasks_session_notes';

/** The triggers that this version of the program needs: for each source table one on insert, one on update and one on delete. */
export const triggers: readonly Trigger[] = Object.entries(notedTables).flatMap(([name, table]) => [
  trigger(name, 'insert', `if @${notesItself} is null then ${guard(table, 'new', note(table, 'new'))}; end if`),
  trigger(name, 'update', noteUpdate(table)),
  trigger(name, 'delete', guard(table, 'old', note(table, 'old'))),
]);

/** The names of {@link triggers}. */
export const triggerNames: readonly string[] = triggers.map(({ name }) => name);

/**
 * Names the triggers that are missing, so that changes are not noted; an empty answer is the right one. One of another version
 * notes as well: while a new version takes the place of an old one, both serve. An account without the right TRIGGER sees none, and
 * cannot say that any is missing.
 */
export async function missingTriggers(database: Knex): Promise<string[]> {
  const present = new Set((await presentTriggers(database)).map(withoutDigest));
  if (present.size === 0 && !(await maySeeTriggers(database))) return [];
  return triggerNames.filter((name) => !present.has(withoutDigest(name)));
}

/** Whether the account has the right TRIGGER on anything. A server shows it its own rights alone. */
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
 * Makes the triggers that are missing, then drops the ones of other versions, and says whether anything changed.
 *
 * New ones stand beside old ones for a while, so that no change goes by without a note. A note too many does no harm.
 *
 * @throws {MigrationError} when the server wants more rights for it.
 */
export async function ensureTriggers(database: Knex): Promise<boolean> {
  const present = new Set(await presentTriggers(database));
  const missing = triggers.filter(({ name }) => !present.has(name));
  for (const { statement } of missing) await create(database, statement);
  const old = [...present].filter((name) => !triggerNames.includes(name));
  for (const name of old) await database.raw('drop trigger if exists ??', [name]);
  return missing.length + old.length > 0;
}

/** Drops all triggers of this program, of any version. */
export async function dropTriggers(database: Knex): Promise<void> {
  for (const name of await presentTriggers(database)) await database.raw('drop trigger if exists ??', [name]);
}

/** The server's error numbers for a missing right, and for a missing right because there is a binary log. */
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
    const { errno } = Object(error) as { errno?: unknown };
    if (!refusals.has(errno)) throw error;
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

/** `insert into workspace_changes (kind, ref) values (1, new.id)`: values and no look-up, see {@link notedTables}. */
function note({ kind, key }: NotedTable, row: 'new' | 'old'): string {
  return `insert into \`workspace_changes\` (\`kind\`, \`ref\`) values (${kind}, ${row}.\`${key}\`)`;
}

function guard({ only }: NotedTable, row: 'new' | 'old', statement: string): string {
  return only === undefined ? statement : `if ${row}.\`${only[0]}\` = '${only[1]}' then ${statement}; end if`;
}

/**
 * `if (not (old.id <=> new.id) or …) then insert … new …; if not (old.id <=> new.id) then insert … old …; end if; end if`: a row
 * that was written and stayed as it was is not noted, also one that an upsert found unchanged.
 */
function noteUpdate(table: NotedTable): string {
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
