import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { CoderComparison, type KnownDifference, type OurAnswer } from '../support/coder-comparison.ts';
import { coderAnswers, coderCallers, coderRows, loadCoderRows } from '../support/coder-rows.ts';
import { type CoderVersion, coderColumns, createCoderSchema } from '../support/coder-schema.ts';
import { runOnCopy } from '../support/copied-coder.ts';
import { createTestDatabase, describeOnOneEngine, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';
import { endService, type RunningService, startService } from '../support/service.ts';

/**
 * How often each difference on purpose is there in the hundred answers. Where a list has two tasks more, it is counted twice; a task
 * with another prompt is counted in each list that it is in.
 */
const onPurpose: Readonly<Record<KnownDifference, number>> = {
  'what is a task, in a list': 197,
  'what is a task, got by its id': 8,
  'what is a task, where the list failed as a whole': 1,
  'template deleted or unreadable': 47,
  'deleted workspaces': 4,
  'pages of a list that is longer here': 4,
  'initial prompt': 24,
  'current state': 24,
  'texts of validations': 12,
  'text of a 401': 4,
  'text of a 404': 3,
};

await describeOnPostgres("Coder's own rows, copied", '15', () => {
  let server: PostgresServer;
  let client: Client;
  beforeAll(async () => {
    server = await startPostgres();
    client = await server.connect();
    for (const version of ['seed', 'newest'] as const) {
      await client.query(`create database ${version}`);
      const its = await server.connect(version);
      await createCoderSchema(its, version);
      await loadCoderRows(its, version);
    }
  });
  afterAll(() => server.stop());

  /** Copies a version, projects it, and makes sure that nothing was left out, changed on the way, or differs. */
  async function copy(version: CoderVersion, { address, database }: TestDatabase): Promise<void> {
    const url = server.url(version);
    const printed = await runOnCopy(url, address, 'sync', '--once');
    expect(printed).toContain(`Coder of ${version === 'seed' ? 'August 2025' : 'June 2026'} or later`);
    const rows = rowsIn(version);
    expect(printed).toContain(`${rows} rows compared; ${rows} inserted, 0 updated, 0 deleted`);
    expect(printed).not.toContain('could not be kept');
    expect(await runOnCopy(url, address, 'sync', '--verify')).toBe('no differences\n');
    await projectAll(database);
    const differences: unknown[] = [];
    await verify(database, (difference) => differences.push(difference));
    expect(differences).toEqual([]);
  }

  describeOnServerKinds('to', (engine) => {
    let testDatabase: TestDatabase;
    let service: RunningService;
    beforeAll(async () => {
      testDatabase = await createTestDatabase(engine);
      await copy('seed', testDatabase);
      service = await startService(testDatabase.address, { PROJECTOR: 'false' });
    });
    afterAll(() => endService(service, testDatabase));

    const ask = async (path: string, token: string): Promise<OurAnswer> => {
      const response = await fetch(`http://${service.web}${path}`, { headers: { 'coder-session-token': token } });
      return { status: response.status, body: await response.json() };
    };

    test('are answered as Coder answered, but for the differences on purpose', async () => {
      const comparison = new CoderComparison();
      const callers = coderCallers();
      const differences = new Map<KnownDifference, number>();
      const problems: string[] = [];
      for (const recorded of coderAnswers()) {
        const { id = '', token = '' } = callers[recorded.caller] ?? {};
        const [list = '', parameters = ''] = recorded.path.split('?');
        const ours = await ask(recorded.path, token);
        const whole = /limit|offset/.test(parameters) ? await ask(list, token) : undefined;
        try {
          for (const known of comparison.compare(recorded, ours, id, whole)) {
            differences.set(known, (differences.get(known) ?? 0) + 1);
          }
        } catch (error) {
          problems.push(`${recorded.caller} ${decodeURIComponent(recorded.path)}: ${String(error)}`);
        }
      }
      expect(problems).toEqual([]);
      expect(Object.fromEntries(differences)).toEqual(onPurpose);
    });
  });

  describeOnOneEngine('to', (engine) => {
    // What Coder's newest version keeps in its own table of tasks is not read yet: prompts, and which app is a task's.
    test('of the newest version are copied whole, and its tokens are good', async () => {
      const newest = await createTestDatabase(engine);
      try {
        await copy('newest', newest);
        const authenticate = createAuthenticate(createApiKeyRepository(newest.database), 0);
        for (const [name, mayRead] of [
          ['mixed', true],
          ['mixed-apps', false], // for apps alone
        ] as const) {
          const token = coderCallers()[name]?.token;
          const caller = await authenticate((header) => (header === 'coder-session-token' ? token : undefined));
          expect(caller, name).toMatchObject({ username: 'mixed', mayRead });
        }
      } finally {
        await newest.drop();
      }
    });
  });

  test('have names that C, und and English collations put in the same order, and Czech and Danish ones do not', async () => {
    const names = ['a', 'a-1', 'a-b', 'a1', 'ab', 'ch', 'ci', 'cz', 'h', 'za', 'aa', 'z', '0', '0-a'];
    const sorted = async (collation: string): Promise<string[]> => {
      const { rows } = await client.query<{ name: string }>(
        `select n.name from unnest($1::text[]) as n (name) order by n.name collate "${collation}"`,
        [names],
      );
      return rows.map(({ name }) => name);
    };
    const ours = names.toSorted();
    for (const collation of ['C', 'und-x-icu', 'en-US-x-icu', 'en-GB-x-icu'])
      expect(await sorted(collation), collation).toEqual(ours);
    for (const collation of ['cs-x-icu', 'da-x-icu']) expect(await sorted(collation), collation).not.toEqual(ours);
  });
});

/** How many rows were recorded in the tables that are copied. */
function rowsIn(version: CoderVersion): number {
  const tables = [...new Set(coderColumns(version).map(({ table }) => table))];
  return tables.reduce((sum, table) => sum + coderRows(version, table).length, 0);
}
