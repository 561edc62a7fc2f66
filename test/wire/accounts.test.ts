import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase, requireDatabase } from '../../src/db/connection.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { authPluginFolder } from '../support/auth-plugins.ts';
import { type Authority, makeAuthority } from '../support/certificates.ts';
import { describeOnEngines } from '../support/database.ts';
import { startEngineServer, type TestServer } from '../support/engines.ts';
import { freePort } from '../support/free-port.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { databaseUrl, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { testWhere } from '../support/test-where.ts';

const run = promisify(execFile);
const password = 'recognisable-password';
const root = resolve(import.meta.dirname, '../..');

// A server of their own for all accounts: those of all tests have no TCP port, no TLS and no plugins.
describeOnEngines('accounts', (engine) => {
  const isMysql = engine === 'mysql';
  /** Whom the operating system knows this process by. */
  const { username } = userInfo();
  let folder: string;
  let ours: Authority;
  let plugins: string | undefined;
  let server: TestServer;
  let operator: Database;
  let overTcp: Pick<DatabaseAddress, 'host' | 'port'>;
  let overSocket: Pick<DatabaseAddress, 'socketPath'>;
  let overTls: Pick<DatabaseAddress, 'host' | 'port' | 'ssl' | 'caFile'>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tasks-accounts-'));
    ours = makeAuthority(folder, 'ours');
    const { certFile, keyFile } = ours.issue('server');
    const port = await freePort();
    plugins = await authPluginFolder(engine);
    const socketPlugin = isMysql ? ['--plugin-load-add=auth_socket.so'] : [];
    const loaded = engine === 'mariadb' ? ['auth_ed25519', 'auth_test_plugin'] : ['auth_ed25519', 'auth_parsec'];
    server = await startEngineServer(engine, join(folder, 'db'), [
      '--skip-networking=OFF',
      '--bind-address=127.0.0.1',
      `--port=${port}`,
      `--ssl-ca=${ours.certFile}`,
      `--ssl-cert=${certFile}`,
      `--ssl-key=${keyFile}`,
      ...socketPlugin,
      ...(plugins === undefined
        ? []
        : [`--plugin-dir=${plugins}`, '--plugin-maturity=unknown', ...loaded.map((name) => `--plugin-load-add=${name}.so`)]),
    ]);
    operator = openDatabase({ ...server.address, database: '' }, { size: 2, statementTimeoutMs: 10_000 });
    overTcp = { host: 'localhost', port };
    overSocket = { socketPath: server.address.socketPath ?? '' };
    overTls = { ...overTcp, ssl: 'verify', caFile: ours.certFile };
  });
  afterAll(async () => {
    await closeDatabase(operator);
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Signs in, and returns how the server knows the account. */
  const signIn = async (address: Partial<DatabaseAddress>): Promise<string> => {
    const pool = openDatabase({ user: 'nobody', database: '', ...address }, { size: 1, statementTimeoutMs: 10_000 });
    try {
      await requireDatabase(pool);
      const [[row]] = (await pool.raw('select current_user() as account')) as [[{ account: string }]];
      return row.account;
    } finally {
      await closeDatabase(pool);
    }
  };
  /** Makes an account that may sign in from anywhere. */
  const create = async (user: string, how: string): Promise<{ user: string }> => {
    await operator.raw(`create user ${user}@'%' ${how}`);
    return { user };
  };

  test('with a client certificate', async () => {
    const account = await create('certified', `identified by '${password}' require x509`);
    const { certFile, keyFile } = ours.issue('client');
    const address = { ...overTls, ...account, password };
    expect(await signIn({ ...address, certFile, keyFile })).toBe('certified@%');
    await expect(signIn(address)).rejects.toThrow(/cannot be reached: Access denied/);
    const foreign = makeAuthority(folder, 'foreign').issue('client');
    await expect(signIn({ ...address, certFile: foreign.certFile, keyFile: foreign.keyFile })).rejects.toThrow(
      /cannot be reached/,
    );
  });

  test('of the socket, without a password', async () => {
    // MySQL can call the account otherwise than the operating system does; MariaDB's may be root, which is there already.
    const user = isMysql ? 'local' : username;
    await operator.raw(`create user if not exists ${user}@localhost`);
    await operator.raw(
      `alter user ${user}@localhost identified ${isMysql ? `with auth_socket as '${username}'` : 'via unix_socket'}`,
    );
    expect(await signIn({ ...overSocket, user })).toBe(`${user}@localhost`);
    await operator.raw(`create user stranger@localhost identified ${isMysql ? 'with auth_socket' : 'via unix_socket'}`);
    await expect(signIn({ ...overSocket, user: 'stranger' })).rejects.toThrow(/cannot be reached: Access denied/);
  });

  testWhere(isMysql)(
    'caching_sha2_password, at first and again, over a socket, over TLS, and in clear text by the public key',
    async () => {
      const account = await create('cached', `identified with caching_sha2_password by '${password}'`);
      for (const way of [overSocket, overTls, overTcp]) {
        await operator.raw('flush privileges'); // it forgets who has signed in
        for (const again of [false, true]) expect(await signIn({ ...way, ...account, password }), String(again)).toBe('cached@%');
        await expect(signIn({ ...way, ...account, password: 'wrong' })).rejects.toThrow(/Access denied/);
      }
    },
  );

  testWhere(isMysql)('sha256_password, over TLS, and in clear text by the public key', async () => {
    const account = await create('hashed', `identified with sha256_password by '${password}'`);
    for (const way of [overSocket, overTls, overTcp]) {
      expect(await signIn({ ...way, ...account, password })).toBe('hashed@%');
      await expect(signIn({ ...way, ...account, password: 'wrong' })).rejects.toThrow(/Access denied/);
    }
  });

  testWhere(!isMysql)('mysql_native_password', async () => {
    const account = await create('native', `identified by '${password}'`);
    for (const way of [overSocket, overTls, overTcp]) expect(await signIn({ ...way, ...account, password })).toBe('native@%');
  });

  testWhere(!isMysql)('ed25519, with passwords of any length', async ({ skip }) => {
    skip(plugins === undefined);
    for (const [i, secret] of [password, 'ü', 'a'.repeat(31), 'a'.repeat(32), 'b'.repeat(80)].entries()) {
      const account = await create(`curve${i}`, `identified via ed25519 using password('${secret}')`);
      for (const way of [overTls, overTcp]) expect(await signIn({ ...way, ...account, password: secret })).toBe(`curve${i}@%`);
      await expect(signIn({ ...overTcp, ...account, password: 'wrong' })).rejects.toThrow(/Access denied/);
    }
  });

  testWhere(engine === 'mariadb')('in clear text, over a socket or checked TLS alone', async ({ skip }) => {
    skip(plugins === undefined);
    const account = await create('clear', `identified via cleartext_plugin_server using '${password}'`);
    for (const way of [overSocket, overTls, { ...overTls, ssl: 'verify-ca' as const }]) {
      expect(await signIn({ ...way, ...account, password })).toBe('clear@%');
    }
    for (const way of [overTcp, { ...overTcp, ssl: 'no-verify' as const }]) {
      const why = await signIn({ ...way, ...account, password }).catch(String);
      expect(why).toMatch(/: the server asks for the password in clear text .*: set ssl=true or ssl=verify-ca$/);
    }
  });

  testWhere(engine === 'mariadb11')(
    'parsec is refused in one line, unless the account has another way before it',
    async ({ skip }) => {
      skip(plugins === undefined);
      const account = await create('modern', `identified via parsec using password('${password}')`);
      const why = await signIn({ ...overTls, ...account, password }).catch(String);
      expect(why).toMatch(/^DatabaseError: the database cannot be reached: the account signs in by "parsec", .*$/);
      const both = await create('either', `identified via ed25519 using password('${password}') or parsec using password('x')`);
      expect(await signIn({ ...overTls, ...both, password })).toBe('either@%');
    },
  );

  test('the service goes on when password and certificate change, and no command says them', async () => {
    await operator.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
    const database = openDatabase({ ...server.address, database: 'tasks' }, { size: 2, statementTimeoutMs: 30_000 });
    await migrateUp(database, { triggers: true });
    const organization_id = await insertOrganization(database, 'acme');
    const owner_id = await insertUser(database, { username: 'someone', memberships: [[organization_id]] });
    const token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    for (const name of ['one', 'two', 'three']) await insertRunningTask(database, { owner_id, organization_id, name });
    await projectAll(database);
    await closeDatabase(database);

    const files = { certFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key') };
    const passwordFile = join(folder, 'password');
    /** Gives the account other credentials, and then the service. */
    const rotate = async (name: string): Promise<void> => {
      await operator.raw(`alter user service@'%' identified by '${password}-${name}' require subject '/CN=${name}'`);
      const issued = ours.issue(name);
      cpSync(issued.certFile, files.certFile);
      cpSync(issued.keyFile, files.keyFile);
      writeFileSync(passwordFile, `${password}-${name}\n`);
    };
    await create('service', `identified by '${password}'`);
    await operator.raw("grant all on tasks.* to service@'%'");
    await rotate('first');

    const address: DatabaseAddress = { ...overTls, ...files, ssl: 'verify-ca', user: 'service', database: 'tasks' };
    const service = await startService(address, {
      DATABASE_PASSWORD_FILE: passwordFile,
      DATABASE_REPLICA_URL: databaseUrl(address),
      DATABASE_REPLICA_PASSWORD_COMMAND: `cat '${passwordFile}'`,
    });
    try {
      const client = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      const list = async (): Promise<number> =>
        (await client.listTasks({}, { headers: { 'coder-session-token': token } })).tasks.length;
      const isReady = async (): Promise<boolean> => (await fetch(`http://${service.ops}/readyz`)).ok;
      /** How often the replica was taken into use. */
      const taken = (): number => service.output().split('lists and gets are read from the replica').length - 1;
      expect(await list()).toBe(3);
      await expect.poll(taken).toBe(1);

      await rotate('second');
      const [connections] = (await operator.raw("select id from information_schema.processlist where user = 'service'")) as [
        { id: number }[],
      ];
      expect(connections.length).toBeGreaterThan(4);
      for (const { id } of connections) await operator.raw(`kill ${id}`).catch(() => {}); // some have ended with others
      await expect.poll(() => list().catch(String)).toBe(3);
      await expect.poll(isReady).toBe(true);
      // What the command printed is used for some seconds.
      await expect.poll(taken, { timeout: 30_000 }).toBe(2);

      if (engine === 'mariadb') {
        const env = {
          DATABASE_URL: databaseUrl(address),
          DATABASE_PASSWORD_COMMAND: `cat '${passwordFile}'`,
          OPS_PORT: service.ops.split(':').at(-1) ?? '',
          PATH: process.env['PATH'] ?? '',
        };
        for (const command of ['migrate up', 'migrate grants', 'keys list', 'project --verify', 'healthcheck', 'demo']) {
          const ended = await run(process.execPath, ['dev/main.ts', ...command.split(' ')], { cwd: root, env });
          expect(ended.stdout + ended.stderr, command).not.toContain(password);
        }
      }
    } finally {
      expect(await service.stop()).toBe(0);
    }
    expect(service.output()).not.toContain(password);
  });
});
