import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { commandLineOf } from '../support/command-line.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { databaseUrl, type RunningService, startService } from '../support/service.ts';

const listPath = '/tasks.v1.TasksService/ListTasks';
const audience = 'tasks';
const issuer = 'https://issuer.example';
const asWhom = {
  user: `secret_${randomBytes(4).toString('hex')}`,
  password: `database%password ${randomBytes(9).toString('hex')}`,
};

let testDatabase: TestDatabase;
let service: RunningService;
let folder: string;
/** Everything that must not be seen, by what it is. */
const secrets = new Map<string, string>([
  ['database password', asWhom.password],
  ['page token key', randomBytes(32).toString('hex')],
  ['wrong session token', 'wrongidabc-WrongSecretWrongSecret'],
  ['cookie', 'cookieabcd-CookieSecretCookieSecr'],
  ['malformed token', `no-token-${randomBytes(9).toString('hex')}`],
  ['question', `prompt-${randomBytes(9).toString('hex')}`],
]);
const secret = (name: string): string => secrets.get(name) ?? '';
/** Everything that came back from the ports, with what asked for it. */
const answers: string[] = [];

/** The ways in which a text can be in another. */
function spellings(value: string): string[] {
  const bytes = Buffer.from(value);
  return [
    value,
    encodeURIComponent(value),
    JSON.stringify(value).slice(1, -1),
    bytes.toString('base64').slice(0, -4),
    bytes.toString('base64url').slice(0, -4),
    bytes.toString('hex'),
  ];
}

function expectNoSecret(haystack: string, where: string, except: readonly string[] = []): void {
  for (const [name, value] of secrets) {
    if (except.includes(name)) continue;
    expect(value.length, name).toBeGreaterThan(20);
    for (const spelling of spellings(value)) expect(haystack.includes(spelling), `${name} in ${where}`).toBe(false);
  }
}

/** Sends a request over HTTP/2, and keeps what comes back. Returns its body. */
async function ask(port: 'grpc' | 'web', headers: OutgoingHttpHeaders, body?: Buffer | string): Promise<void> {
  const session = connectHttp2(`http://${service[port]}`);
  session.on('error', () => {});
  const stream = session.request({ ':method': 'POST', ':path': listPath, ...headers });
  const got: unknown[] = [];
  stream.on('response', (received) => got.push(received));
  stream.on('trailers', (received) => got.push(received));
  stream.on('error', (error) => got.push(String(error)));
  stream.end(body);
  got.push(await text(stream).catch(String));
  // On the gRPC port the library repeats an invalid path and an invalid timeout to whoever sent them.
  const repeats = port === 'grpc' && (':path' in headers || 'grpc-timeout' in headers);
  answers.push(JSON.stringify(got, (name, value: unknown) => (repeats && name === 'grpc-message' ? undefined : value)));
  session.destroy();
}

/** The same over HTTP/1.1 to the web or the operators' port. */
async function askHttp1(port: 'web' | 'ops', path: string, headers: http.OutgoingHttpHeaders): Promise<void> {
  const { hostname, port: number } = new URL(`http://${service[port]}`);
  const request = http.get({ hostname, port: number, path, headers, agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  answers.push(JSON.stringify([response.headers, await text(response)]));
}

const frame = Buffer.alloc(5);
const grpc = { 'content-type': 'application/grpc', te: 'trailers' };
const json = { 'content-type': 'application/json' };

/** Every secret that a client has, where clients put such things and where they put them by mistake. */
async function askInEveryWay(): Promise<void> {
  for (const name of [
    'session token',
    'wrong session token',
    'malformed token',
    'good JWT',
    'expired JWT',
    'JWT of an unknown key',
    'cookie',
  ]) {
    const token = secret(name);
    const places: OutgoingHttpHeaders[] = [
      { 'coder-session-token': token },
      { authorization: `Bearer ${token}` },
      { authorization: `Basic ${token}` },
      { authorization: token },
      { cookie: `coder_session_token=${token}` },
      { 'x-token-bin': token },
      { 'x-request-id': `${token} ` },
      { 'grpc-timeout': token },
      { 'connect-timeout-ms': token },
      { 'grpc-encoding': token, 'content-encoding': token },
      { 'user-agent': token, traceparent: token, baggage: `token=${token}` },
      { ':path': `${listPath}?coder_session_token=${token}` },
      { ':path': `/${token}` },
    ];
    for (const place of places) {
      await ask('grpc', { ...grpc, ...place }, frame);
      await ask('web', { ...grpc, ...place }, frame);
      await ask('web', { ...json, ...place }, '{}');
    }
    await askHttp1('web', `/api/experimental/tasks?coder_session_token=${token}`, { cookie: `coder_session_token=${token}` });
    await askHttp1('web', `/api/experimental/tasks/${token}`, { 'coder-session-token': secret('session token') });
    await askHttp1('ops', `/${token}`, { authorization: `Bearer ${token}` });
  }
  const signedIn = { 'coder-session-token': secret('session token') };
  const query = JSON.stringify({ query: `${secret('question')}: "${secret('question')}`, pageToken: secret('question') });
  await ask('web', { ...json, ...signedIn }, query);
  await ask('web', { ...json, ...signedIn }, `{"query": "prompt:${secret('question')}"}`);
  await ask('web', { ...json, ...signedIn }, `nonsense ${secret('question')}`);
}

describeOnServerKinds('secrets', (engine) => {
  beforeAll(async () => {
    answers.length = 0;
    folder = mkdtempSync(join(tmpdir(), 'tasks-secrets-'));
    testDatabase = await createTestDatabase(engine);
    const { database, address } = testDatabase;
    await insertUser(database, { username: 'someone', roles: ['owner'] });
    secrets.set(
      'session token',
      (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'x' })) ?? '',
    );
    const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
    writeFileSync(
      join(folder, 'keys.json'),
      JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'a', alg: 'ES256' }] }),
    );
    const jwt = (exp: number, kid: string) =>
      new SignJWT({ iss: issuer, aud: audience, sub: 'someone', exp }).setProtectedHeader({ alg: 'ES256', kid }).sign(privateKey);
    const now = Math.floor(Date.now() / 1000);
    secrets.set('good JWT', await jwt(now + 600, 'a'));
    secrets.set('expired JWT', await jwt(now - 600, 'a'));
    secrets.set('JWT of an unknown key', await jwt(now + 600, 'b'));

    await database.raw(`create user '${asWhom.user}'@'%' identified by '${asWhom.password}'`);
    await database.raw(`grant all on \`${address.database}\`.* to '${asWhom.user}'@'%'`);
    service = await startService(
      { ...address, ...asWhom },
      {
        LOG_LEVEL: 'trace',
        OTEL_TRACES_EXPORTER: 'console', // spans are printed with the log
        PAGE_TOKEN_KEY: secret('page token key'),
        JWT_ISSUER: issuer,
        JWT_AUDIENCE: audience,
        JWT_JWKS: join(folder, 'keys.json'),
        REFLECTION: 'true',
        AUTH_CACHE_SECONDS: '0',
      },
    );
  });
  afterAll(async () => {
    await service.stop();
    await testDatabase.database.raw(`drop user '${asWhom.user}'@'%'`);
    await testDatabase.drop();
    rmSync(folder, { recursive: true });
  });

  describe('a service that meets every kind of failure', () => {
    beforeAll(async () => {
      const { database } = testDatabase;
      await askInEveryWay();
      await askHttp1('ops', '/metrics', {});
      await askHttp1('ops', '/readyz', {});

      // A statement that fails, for what counts as the database's fault and as ours: the driver's errors have the statement in them.
      await database.raw('rename table `workspace_tasks` to `elsewhere`');
      await askInEveryWay();
      await database.raw('rename table `elsewhere` to `workspace_tasks`');
      await database.raw('alter table `workspace_tasks` rename column `prompt` to `elsewhere`');
      await askInEveryWay();
      await database.raw('alter table `workspace_tasks` rename column `elsewhere` to `prompt`');

      // A database that refuses the password, and cuts the connections that it has.
      await database.raw(`alter user '${asWhom.user}'@'%' identified by 'another'`);
      // As the same account: one that is no administrator's may end the connections of no other.
      const again = { ...testDatabase.address, user: asWhom.user, password: 'another' };
      const operator = openDatabase(again, { size: 1, statementTimeoutMs: 10_000 });
      const [connections] = (await operator.raw('show processlist')) as [{ Id: number; Info: string | null }[]];
      for (const { Id, Info } of connections) if (Info !== 'show processlist') await operator.raw('kill ?', [Id]);
      await closeDatabase(operator);
      await askInEveryWay();
      await askHttp1('ops', '/readyz', {});
      await askHttp1('ops', '/metrics', {});
      await vi.waitFor(() => expect(service.output()).toContain('ER_ACCESS_DENIED_ERROR'), { timeout: 20_000 });
    }, 60_000);

    test('has failed in all of these ways', () => {
      const codes = new Set([...service.output().matchAll(/"code":"([A-Z_]+)"/g)].map(([, code]) => code));
      for (const code of ['OK', 'UNAUTHENTICATED', 'INVALID_ARGUMENT', 'INTERNAL', 'UNAVAILABLE']) expect(codes).toContain(code);
      expect(answers.length).toBeGreaterThan(700);
    });

    test('writes no secret to its log or its traces, and not what was asked for', () => {
      expect(service.output()).toContain("name: 'list_tasks'");
      expectNoSecret(service.output(), 'the log');
    });

    test('answers with none, in headers, trailers, bodies and metrics', () => {
      // Bad input is told to whoever sent it.
      for (const answer of answers) expectNoSecret(answer, answer.slice(0, 2000), ['question']);
    });

    test('shows none in the list of processes', () => {
      const command = commandLineOf(service.process.pid);
      expect(command).toContain('serve');
      expectNoSecret(command, 'the list of processes');
    });
  });

  describe('a command that fails', () => {
    test.each<readonly [string, readonly string[], (url: string) => Record<string, string>]>([
      ['by a refused password', ['migrate', 'status'], (url) => ({ DATABASE_URL: url })],
      ['by a refused password, while serving', ['serve'], (url) => ({ DATABASE_URL: url })],
      ['by an invalid address', ['serve'], (url) => ({ DATABASE_URL: url.replace('mysql:', 'postgres:') })],
      ['by a parameter that is unknown', ['serve'], (url) => ({ DATABASE_URL: `${url}&x=1` })],
      [
        'by a host that is not there',
        ['project', '--verify'],
        (url) => ({ DATABASE_URL: url.replace(/@.*/, '@127.0.0.1:1/tasks') }),
      ],
      ['by a key that is too short', ['serve'], () => ({ PAGE_TOKEN_KEY: 'databasepasswordindisguise' })],
      [
        'by an address of keys with a password',
        ['serve'],
        () => ({ JWT_ISSUER: 'a', JWT_AUDIENCE: 'b', JWT_JWKS: 'https://u:databasepasswordindisguise@x/' }),
      ],
      [
        'by a revoked token that does not exist',
        ['keys', 'revoke', 'wrongidabc-WrongSecretWrongSecret'],
        (url) => ({ DATABASE_URL: url }),
      ],
    ])('%s tells no secret', (_, args, env) => {
      const url = databaseUrl({ ...testDatabase.address, ...asWhom });
      const { stdout, stderr, status } = spawnSync(process.execPath, ['src/main.ts', ...args], {
        env: { PATH: process.env['PATH'], LOG_LEVEL: 'trace', ...env(url) },
        encoding: 'utf8',
      });
      expect([status, stderr]).toEqual([1, expect.stringMatching(/./)]);
      expectNoSecret(stdout + stderr, stdout + stderr);
      expect(stdout + stderr).not.toContain('databasepasswordindisguise');
    });
  });
});
