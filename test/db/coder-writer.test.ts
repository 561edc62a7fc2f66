import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadCoderRows } from '../support/coder-rows.ts';
import { coderColumns, createCoderSchema } from '../support/coder-schema.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';

await describeOnPostgres('random writers of Coder', '18', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ version: '18' });
  });
  afterAll(() => server.stop());

  test.each(['seed', 'newest'] as const)('%s: they change all tables, and go on after the server was killed', async (version) => {
    const database = `writers_${version}`;
    const root = await server.connect('postgres');
    await root.query(`create database ${database}`);
    const client = await server.connect(database);
    await createCoderSchema(client, version);
    if (version === 'newest') await loadCoderRows(client, version); // they also write into what is there
    const writers = startCoderWriters({ connect: () => server.connect(database), version, writers: 3, seed: 1 });
    await expect.poll(() => writers.done.committed).toBeGreaterThan(20);
    await server.crash();
    await server.restart();

    const after = await server.connect(database);
    const unchanged = async (): Promise<unknown[]> => {
      const { rows } = await after.query('select relname from pg_stat_user_tables where n_tup_ins = 0 or n_tup_del = 0');
      return rows;
    };
    await expect.poll(unchanged, { timeout: 50_000, interval: 200 }).toEqual([]);
    await writers.stop();
    expect(writers.done.lost).toBeGreaterThan(0);
    const tables = new Set(coderColumns(version).map(({ table }) => table));
    expect((await after.query('select relname from pg_stat_user_tables')).rows).toHaveLength(tables.size);
  });
});
