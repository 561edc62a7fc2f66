import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connection } from 'mysql2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase, requireDatabase } from '../../src/db/connection.ts';
import { ConnectionPool } from '../../src/db/connection-pool.ts';
import { setUpSession } from '../../src/db/session.ts';
import { type Authority, makeAuthority } from '../support/certificates.ts';
import { describeOnEngines } from '../support/database.ts';
import { startEngineServer, type TestServer } from '../support/engines.ts';
import { freePort } from '../support/free-port.ts';

const password = 'recognisable-password';

// Servers of their own: those of all tests have no TCP port.
describeOnEngines('TLS to the database', (engine) => {
  let folder: string;
  let ours: Authority;
  let server: TestServer;
  let root: Database;
  let port: number;

  /** Has the server show a certificate from now on. */
  const show = async (names: readonly string[], days = 20): Promise<void> => {
    const { certFile, keyFile } = ours.issue(`server-${names.join()}${days}`.replaceAll(/[^\w-]/g, '_'), { names, days });
    cpSync(certFile, join(folder, 'server.pem'));
    cpSync(keyFile, join(folder, 'server-key.pem'));
    await root.raw(engine === 'mysql' ? 'alter instance reload tls' : 'flush ssl');
  };
  const pools: Database[] = [];
  const connect = async (host: string, more: Partial<DatabaseAddress>): Promise<unknown> => {
    const address = { host, port, user: 'guarded', password, database: '', ...more };
    const pool = openDatabase(address, { size: 1, statementTimeoutMs: 10_000 });
    pools.push(pool);
    await requireDatabase(pool);
    const [[row]] = (await pool.raw("show status like 'Ssl_version'")) as [[{ Value: string }]];
    return row.Value;
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tasks-dbtls-'));
    ours = makeAuthority(folder, 'ours');
    const first = ours.issue('first');
    cpSync(first.certFile, join(folder, 'server.pem'));
    cpSync(first.keyFile, join(folder, 'server-key.pem'));
    port = await freePort();
    const options = [
      '--skip-networking=OFF',
      '--bind-address=127.0.0.1',
      `--port=${port}`,
      `--ssl-ca=${ours.certFile}`,
      `--ssl-cert=${join(folder, 'server.pem')}`,
      `--ssl-key=${join(folder, 'server-key.pem')}`,
    ];
    server = await startEngineServer(engine, join(folder, 'db'), options);
    root = openDatabase({ ...server.address, user: 'root', database: '' }, { size: 1, statementTimeoutMs: 10_000 });
    await root.raw(`create user guarded@'%' identified by '${password}' require ssl`);
  });
  afterAll(async () => {
    await Promise.all([...pools, root].map((pool) => closeDatabase(pool)));
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const verified = () => ({ ssl: 'verify', caFile: ours.certFile }) as const;

  test('a certificate of our authority for the host is taken', async () => {
    expect(await connect('localhost', verified())).toMatch(/^TLSv1\.[23]$/);
  });

  test('without TLS the account that demands it is refused', async () => {
    await expect(connect('localhost', {})).rejects.toThrow('the database cannot be reached');
  });

  test('one of an authority that nobody knows is refused', async () => {
    await expect(connect('localhost', { ssl: 'verify' })).rejects.toThrow(/cannot be reached.*certificate/);
    const caFile = makeAuthority(folder, 'foreign').certFile;
    for (const ssl of ['verify', 'verify-ca'] as const) {
      await expect(connect('localhost', { ssl, caFile })).rejects.toThrow(/cannot be reached.*certificate/);
    }
  });

  test('one for another host is refused, unless its authority alone is asked for', async () => {
    await show(['DNS:elsewhere.example', 'IP:127.0.0.1']);
    await expect(connect('localhost', verified())).rejects.toThrow(/does not match/);
    for (const host of ['localhost', '127.0.0.1']) {
      expect(await connect(host, { ssl: 'verify-ca', caFile: ours.certFile })).toMatch(/^TLS/);
    }
    await show(['DNS:localhost']);
    expect(await connect('localhost', verified())).toMatch(/^TLS/);
  });

  test('an expired one is refused', async () => {
    const expired = show(['DNS:localhost', 'IP:127.0.0.1'], -1);
    if (engine === 'mysql')
      await expect(expired).rejects.toThrow(/Invalid certificates/); // it does not even show it
    else {
      await expired;
      await expect(connect('localhost', verified())).rejects.toThrow(/expired/);
    }
  });

  test('no-verify takes any, and is encrypted', async () => {
    await show(['DNS:elsewhere.example']);
    expect(await connect('localhost', { ssl: 'no-verify' })).toMatch(/^TLS/);
  });

  test('no refusal tells the password', async () => {
    const message = await connect('localhost', { ssl: 'verify' }).catch(String);
    expect(message).not.toContain(password);
  });

  test('a connection is lost when it is silent for too long, and not while it is used', async () => {
    const driver = { host: '127.0.0.1', port, user: 'guarded', password, ssl: { rejectUnauthorized: false } };
    const prepare = async (connection: Connection) => void (await setUpSession(connection, { statementTimeoutMs: 0 }));
    const pool = new ConnectionPool({ driver, prepare, size: 1, waitMs: 5000, silenceMs: 600 });
    const run = async (sql: string): Promise<unknown> => {
      const connection = await pool.take();
      return new Promise((resolve, reject) => {
        connection.query(sql, (error, rows) => (error ? reject(error) : resolve([connection.threadId, rows])));
      }).finally(() => pool.release(connection));
    };
    const first = await run('select 1 as `one`');
    for (let i = 0; i < 5; i++) await run('do sleep(0.3)');
    expect(await run('select 1 as `one`')).toEqual(first);
    await expect(run('do sleep(5)')).rejects.toMatchObject({ code: 'PROTOCOL_CONNECTION_LOST', fatal: true });
    expect(await run('select 1 as `one`')).not.toEqual(first);
    await pool.destroy();
  });

  if (engine !== 'mysql') return;
  test('one that MySQL made for itself has no host, and is taken for its authority alone', async () => {
    const own = join(folder, 'db/data');
    await root.raw(
      `set global ssl_ca = '${own}/ca.pem', global ssl_cert = '${own}/server-cert.pem', global ssl_key = '${own}/server-key.pem'`,
    );
    await root.raw('alter instance reload tls');
    const caFile = `${own}/ca.pem`;
    await expect(connect('localhost', { ssl: 'verify', caFile })).rejects.toThrow(/does not match/);
    expect(await connect('localhost', { ssl: 'verify-ca', caFile })).toMatch(/^TLS/);
  });
});
