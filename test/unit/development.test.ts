import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { development } from '../../dev/development.ts';
import { type Config, readConfig } from '../../src/config.ts';

describe('a command beside npm start works', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'development-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** A service that runs, which is this process, serves a database. */
  const serve = (database: string): void =>
    writeFileSync(join(folder, 'demo.json'), JSON.stringify({ pid: process.pid, socket: '/s', user: 'u', database }));
  const config = (env: Record<string, string> = {}): Config => readConfig({ DATA_DIR: folder, ...env });
  const coder = { CODER_DATABASE_URL: 'postgres://reader@127.0.0.1/coder' };

  test.for([
    ['the demo', 'tasks', {}],
    ['the copy of a Coder that it is not told of', 'coder', {}],
    ['the copy of the Coder', 'coder', coder],
  ] as const)('on %s', async ([, database, env]) => {
    serve(database);
    await using opened = await development.openDatabase(config(env));
    expect(opened.address).toEqual({ socketPath: '/s', user: 'u', database });
  });

  test('not on the demo when it is told of a Coder', async () => {
    serve('tasks');
    await expect(development.openDatabase(config(coder))).rejects.toThrow('npm start serves the demo here');
  });
});
