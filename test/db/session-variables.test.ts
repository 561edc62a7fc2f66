import { readFileSync } from 'node:fs';
import { expect, inject, test } from 'vitest';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { describeOnEngines } from '../support/database.ts';

const page = readFileSync(new URL('../../docs/session-variables.md', import.meta.url), 'utf8');
const named = new Set(Array.from(page.matchAll(/`([a-z]\w*)`/g), ([, name]) => name));

/** A variable of the server alone, one that cannot be changed, one that a session cannot change. */
const notOfSession = new Set<unknown>([1229, 1238, 1621]);

describeOnEngines('the page of session variables', (engine) => {
  const server = inject('engines')[engine];
  const version = server !== undefined && 'version' in server ? server.version : '';
  const isGoneThrough = page.includes(version.replace(/-.*/, ''));

  test.skipIf(!isGoneThrough)('names each that can be changed', async () => {
    if (server === undefined || 'notRun' in server) return;
    const database = openDatabase({ ...server.address, database: '' }, { size: 1, statementTimeoutMs: 30_000 });
    const [rows] = (await database.raw('show session variables')) as [{ Variable_name: string }[]];
    const missing: string[] = [];
    for (const { Variable_name: name } of rows) {
      if (named.has(name)) continue;
      const refused = await database.raw(`set session \`${name}\` = @@session.\`${name}\``).catch((error: unknown) => error);
      if (!notOfSession.has(Object(refused).errno)) missing.push(name);
    }
    await closeDatabase(database);
    expect(rows.length).toBeGreaterThan(500);
    expect(missing).toEqual([]);
  });
});
