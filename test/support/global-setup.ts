import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { type DatabaseAddress, readConfig } from '../../src/config.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { leftOutWhenDistributed } from './distributed-left-out.ts';
import { distributedOptions, isDistributed, makeWriter } from './distributed-settings.ts';
import { cacheDir, type Engine, engines, startEngineServer, type TestServer } from './engines.ts';
import { findForbidden, readStatements } from './forbidden-statements.ts';
import { areAllHostile } from './hostile-settings.ts';

/** What the test files are told of an engine: how to reach it, or why they cannot. */
export type EngineForTests = Pick<TestServer, 'version' | 'address'> | { readonly notRun: string };

declare module 'vitest' {
  interface ProvidedContext {
    /** The engines asked for, by name. */
    engines: Partial<Record<Engine, EngineForTests>>;
  }
}

/** The engine whose server, which the files of tests share, is set up as for quite other programs. */
const hostileEngine: Engine = 'mariadb11';

interface Running {
  readonly found: Partial<Record<Engine, EngineForTests>>;
  stop(): Promise<void>;
}

/** The projects db and wire of one run share their servers; each loads this module for itself, so what they share is kept here. */
const shared = globalThis as { testServers?: { users: number; running: Promise<Running> } };

/**
 * Starts the database servers of a test run, and stops them at its end. MariaDB must be there; where a newer one or a real MySQL
 * cannot be had the tests on it are skipped, with a line that says so.
 *
 * `TEST_ENGINES=mariadb` leaves the others out. `TEST_MARIADB_URL`, `TEST_MARIADB11_URL` and `TEST_MYSQL_URL` name servers to use
 * instead of private ones; the account needs the right to create databases. `TEST_DISTRIBUTED=true` forbids what distributed
 * engines lack, see `distributed-settings.ts`. What ran is written to `test-report.json` in the cache folder.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared.testServers ??= { users: 0, running: startServers() };
  const mine = shared.testServers;
  mine.users += 1;
  const running = await mine.running;
  project.provide('engines', running.found);
  return async () => {
    mine.users -= 1;
    if (mine.users > 0) return;
    delete shared.testServers;
    await running.stop();
  };
}

async function startServers(): Promise<Running> {
  const wanted = enginesWanted();
  if (isDistributed)
    for (const [file, reason] of Object.entries(leftOutWhenDistributed)) console.log(`left out: ${file}: ${reason}`);
  const folder = mkdtempSync(join(tmpdir(), 'tasks-test-')); // short: the path of a socket may have 107 bytes
  const sentFile = join(folder, 'sent.log');
  const servers: TestServer[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()));
    if (isDistributed) await checkStatements(sentFile);
    rmSync(folder, { recursive: true, force: true });
  };
  const found: Partial<Record<Engine, EngineForTests>> = {};
  const starting = wanted.map(async (engine) => {
    try {
      const server = await startServer(engine, join(folder, engine), isDistributed ? distributedOptions(sentFile) : []);
      if (isDistributed) await makeWriter(server);
      servers.push(server);
      found[engine] = { version: server.version, address: server.address };
    } catch (error) {
      found[engine] = { notRun: error instanceof Error ? error.message : String(error) };
    }
  });
  await Promise.all(starting);
  report(found);
  const { mariadb } = found;
  if (mariadb !== undefined && 'notRun' in mariadb) {
    await stop();
    throw new Error(`the tests need MariaDB: ${mariadb.notRun}`);
  }
  return { found, stop };
}

/** @throws {Error} when a statement was sent that a distributed engine does not have. */
async function checkStatements(sentFile: string): Promise<void> {
  const statements = await readStatements(sentFile);
  const found = findForbidden(statements);
  console.log(`${statements.size} different statements were sent, ${found.length} of which distributed engines lack`);
  if (found.length > 0) throw new Error(`what distributed engines lack was sent:\n${found.join('\n')}`);
}

function enginesWanted(): Engine[] {
  if (isDistributed) return ['mariadb'];
  const names = (process.env['TEST_ENGINES'] ?? engines.join(',')).split(',').map((name) => name.trim());
  const unknown = names.find((name) => !engines.some((engine) => engine === name));
  if (unknown !== undefined) throw new Error(`TEST_ENGINES: there is no engine "${unknown}"; known are ${engines.join(', ')}`);
  return engines.filter((engine) => names.includes(engine));
}

async function startServer(engine: Engine, folder: string, options: readonly string[]): Promise<TestServer> {
  const url = process.env[`TEST_${engine.toUpperCase()}_URL`];
  if (url !== undefined) {
    if (isDistributed) throw new Error('TEST_DISTRIBUTED reads the log of a private server: unset TEST_MARIADB_URL');
    const address = readConfig({ DATABASE_URL: url }).DATABASE_URL;
    if (address === undefined) throw new Error(`TEST_${engine.toUpperCase()}_URL is empty`);
    return { version: await serverVersion(address), address, stop: async () => {} };
  }
  // One of them is a hostile one in each run, at no cost: what is right there is right on the others.
  return startEngineServer(engine, folder, options, areAllHostile || engine === hostileEngine);
}

async function serverVersion(address: DatabaseAddress): Promise<string> {
  const database = openDatabase(address, { size: 1, statementTimeoutMs: 10_000 });
  try {
    const [[row]] = (await database.raw('select version() as version')) as [[{ version: string }]];
    return row.version;
  } finally {
    await closeDatabase(database);
  }
}

/** Tells the console, and whoever reads `test-report.json`, which engines the tests ran on. */
function report(found: Partial<Record<Engine, EngineForTests>>): void {
  const ran: ({ name: Engine; version: string } | { name: Engine; notRun: string })[] = [];
  for (const name of engines) {
    const engine = found[name];
    if (engine === undefined) continue;
    ran.push('notRun' in engine ? { name, notRun: engine.notRun } : { name, version: engine.version });
    console.log('notRun' in engine ? `NOT RUN: ${name}: ${engine.notRun}` : `${name} ${engine.version}`);
  }
  if (isDistributed) return; // beside the run that tells of all engines
  mkdirSync(cacheDir, { recursive: true });
  writeFileSync(join(cacheDir, 'test-report.json'), `${JSON.stringify({ engines: ran }, undefined, 2)}\n`);
}
