import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { standInPrefix } from './distributed-settings.ts';

/**
 * What at least one of TiDB, Vitess and OceanBase lacks, or does otherwise than a statement of ours may rely on; docs/distributed.md
 * says which, and where that is written.
 */
const forbidden: readonly (readonly [what: string, pattern: RegExp])[] = [
  ['a lock by name', /\b(get_lock|release_lock|release_all_locks|is_used_lock|is_free_lock)\s*\(/],
  ['a trigger', /\bcreate (or replace )?(definer\S* )?trigger\b/],
  ['a procedure, a function or an event', /\bcreate (or replace )?(definer\S* )?(procedure|function|event)\b|^call\b/],
  ['a foreign key', /\bforeign key\b|\breferences\b/],
  ['a view', /\bcreate (or replace )?(algorithm\S* )?view\b/],
  ['a savepoint', /^(savepoint|release savepoint|rollback to)\b/],
  ['a lock of a table', /^(lock tables?|unlock tables?)\b/],
  ['XA', /^xa\b/],
  ['a handler', /^handler\b/],
  ['a full text or spatial index', /\b(fulltext|spatial)\b/],
  ['a table made from a query', /^create (temporary )?table [^(]* (as )?select\b/],
  ['a derived table that sees its neighbours, or a table of JSON', /\b(lateral|json_table)\b/],
  ['skipping of locked rows', /\bskip locked\b/],
  ['a lock for reading', /\bfor share\b|\block in share mode\b/],
  ['another isolation level than READ COMMITTED', /\b(serializable|read-uncommitted|read uncommitted)\b/],
  ['a result of a write', /\breturning\b/],
  ['a sequence', /\bnext value for\b|\bnextval\s*\(|\bcreate sequence\b/],
  ['a variable that is set in an expression', /:=/],
  ['a temporary table', /\bcreate temporary table\b/],
];

/** Reads the general log of a MariaDB server: what was sent to it, each statement once, in lower case and without its values. */
export async function readStatements(logFile: string): Promise<Set<string>> {
  const statements = new Set<string>();
  let statement: string[] | undefined;
  const end = (): void => {
    if (statement !== undefined) statements.add(withoutValues(statement.join(' ')));
    statement = undefined;
  };
  for await (const line of createInterface(createReadStream(logFile))) {
    const [, kind, text] = /^(?:\d{6} [\d:]{7,8}|\t)\t\s*\d+ ([A-Z][a-z]+(?: [a-zA-Z]+)?)\t(.*)$/.exec(line) ?? [];
    if (kind === undefined) statement?.push(line);
    else {
      end();
      if ((kind === 'Query' || kind === 'Prepare') && text !== undefined) statement = [text];
    }
  }
  end();
  return statements;
}

/** Triggers of tests: those that stand for the code of the platform's writers, and those that break something on purpose. */
const ofTests = new RegExp(`^(create|drop) trigger \\S?(${standInPrefix}|poison\\b)`);

/** `migrate up` waits by a lock of the server for a schema change whose process has died. */
const ofMigrateUp = [
  /^select get_lock\(concat\(\?, sha2\(database\(\), \?\)\), \?\)( as taken)?$/,
  /^select release_lock\(concat\(/,
];

/** Says of each statement that is forbidden what it has. */
export function findForbidden(statements: Iterable<string>): string[] {
  const found: string[] = [];
  for (const statement of statements) {
    if (ofTests.test(statement) || ofMigrateUp.some((known) => known.test(statement))) continue;
    for (const [what, pattern] of forbidden) if (pattern.test(statement)) found.push(`${what}: ${statement.slice(0, 300)}`);
  }
  return found;
}

function withoutValues(statement: string): string {
  return statement
    .replace(/'(?:[^'\\]|\\.|'')*'/gs, '?')
    .replace(/\bx\?/gi, '?')
    .replace(/\b\d+(\.\d+)?\b/g, '?')
    .replace(/\s+/g, ' ')
    .replace(/\?(, ?\?)+/g, '?…')
    .replace(/\(\?…?\)(, ?\(\?…?\))+/g, '(?…)')
    .trim()
    .toLowerCase();
}
