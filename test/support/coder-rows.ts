import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { ClientBase } from 'pg';
import { type CoderVersion, coderColumns, coderFolder } from './coder-schema.ts';
import { parseCsv } from './csv.ts';

/** The rows of a table that Coder's own programs wrote, each with its columns by name, as PostgreSQL's text. */
export function coderRows(version: CoderVersion, table: string): Record<string, string | null>[] {
  const text = gunzipSync(readFileSync(join(coderFolder(version), `${table}.csv.gz`))).toString('utf8');
  const [names = [], ...lines] = parseCsv(text);
  return lines.map((line) => Object.fromEntries(names.map((name, i) => [name ?? '', line[i] ?? null])));
}

/**
 * Loads the recorded rows of a version into the tables of `createCoderSchema`, by a superuser: nothing that is checked or done for a
 * row of Coder's programs is done again. The session tokens, which have long expired, are good for another day.
 */
export async function loadCoderRows(client: ClientBase, version: CoderVersion): Promise<void> {
  const tables = [...new Set(coderColumns(version).map(({ table }) => table))];
  await client.query('begin; set local session_replication_role = replica');
  for (const table of tables) {
    const rows = coderRows(version, table);
    const names = Object.keys(rows[0] ?? {}).filter((name) => name !== 'job_status'); // made by the database
    const size = 200; // a statement has room for 65,535 values
    for (let i = 0; i < rows.length; i += size) {
      const some = rows.slice(i, i + size);
      const places = some.map((_, row) => `(${names.map((_, column) => `$${row * names.length + column + 1}`).join(', ')})`);
      // insert into t ("a", "b") values ($1, $2), ($3, $4)
      await client.query(
        `insert into ${table} (${names.map((name) => `"${name}"`).join(', ')}) values ${places.join(', ')}`,
        some.flatMap((row) => names.map((name) => row[name])),
      );
    }
  }
  await client.query("update api_keys set expires_at = now() + interval '1 day'");
  await client.query('commit');
}

/** A caller of the recorded answers. */
export interface CoderCaller {
  readonly id: string;
  /** A session token. */
  readonly token: string;
}

/** The callers of the recorded answers, by name. */
export function coderCallers(): Readonly<Record<string, CoderCaller>> {
  return JSON.parse(readFileSync(join(coderFolder('seed'), 'callers.json'), 'utf8')) as Record<string, CoderCaller>;
}

/** What Coder answered to `GET path` with a caller's token. */
export interface CoderAnswer {
  readonly caller: string;
  readonly path: string;
  readonly status: number;
  readonly body: unknown;
}

/** The recorded answers for the rows of the seed. */
export function coderAnswers(): readonly CoderAnswer[] {
  const text = gunzipSync(readFileSync(join(coderFolder('seed'), 'answers.json.gz'))).toString('utf8');
  return JSON.parse(text) as CoderAnswer[];
}
