import { readFileSync } from 'node:fs';
import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadDemo } from '../../dev/demo/demo.ts';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { databaseUnavailable, queryTooExpensive } from '../../src/call/errors.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { GetTaskResponseSchema, ListTasksResponseSchema, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import type { CoderErrorBody } from '../../src/transport/coder/coder-error.ts';
import type { CoderTask } from '../../src/transport/coder/coder-task.ts';
import { listOf, stableTask } from '../support/coder-sdk.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { endService, type RunningService, startService } from '../support/service.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

const root = '/api/experimental/tasks';

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: { readonly tasks: CoderTask[]; readonly count: number } & CoderTask & CoderErrorBody;
}

/** Gets a path below the root. */
async function get(
  web: string,
  path: string,
  headers: Record<string, string> = signedIn,
  init: RequestInit = {},
): Promise<Answer> {
  const response = await fetch(`http://${web}${root}${path}`, { ...init, headers });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: (text === '' ? {} : JSON.parse(text)) as Answer['body'] };
}

const nobody = { message: 'No such task or user, or you may not read it.' };
const signedOut = { message: 'You are signed out, or your session has expired: send a valid session token.' };

describe('the Coder-shaped JSON on the web port', () => {
  const taskId = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
  const waiting = Promise.withResolvers<void>();
  let entered = 0;
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({
      webOrigins: ['https://tasks.example.com'],
      findUser: (user) =>
        Promise.resolve(user === 'bob' ? { id: Buffer.alloc(16, 7), organizationIds: [Buffer.alloc(16, 8)] } : undefined),
      handlers: {
        async listTasks({ query, pageSize }, { signal }, options) {
          if (query === 'bug') throw new Error('secret');
          if (query === 'expensive') throw queryTooExpensive(undefined);
          if (query === 'away') throw databaseUnavailable(undefined);
          if (query === 'slow') {
            entered += 1;
            await new Promise((_, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason as Error));
            });
          }
          if (query === 'wait') await waiting.promise;
          const name = [query, options?.defaultOwner].join(' ');
          return create(ListTasksResponseSchema, { count: pageSize, tasks: [{ id: taskId, name, displayName: 'é 🚀' }] });
        },
        getTask: ({ identifier }) =>
          Promise.resolve(create(GetTaskResponseSchema, { task: { name: `${identifier.case} ${String(identifier.value)}` } })),
      },
    });
  });
  afterAll(() => server.stop());

  test('is UTF-8 that is neither stored nor sniffed, with a request id', async () => {
    const { status, headers, body } = await get(server.web, '/me', { ...signedIn, 'x-request-id': 'mine' });
    expect(status).toBe(200);
    expect(Object.fromEntries(headers)).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'cross-origin-resource-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
      'x-request-id': 'mine',
    });
    expect(body.tasks[0]?.display_name).toBe('é 🚀');
    expect(headers.get('content-length')).toBe(String(Buffer.byteLength(`${JSON.stringify(body)}\n`)));
  });

  test.each<[path: string, name: string]>([
    ['', ' everyone'],
    ['/', ' everyone'],
    ['?q=', ' everyone'],
    ['?q=status:running', 'status:running everyone'],
    ['/me', ' me'],
    ['/me/', ' me'],
    ['/developer?q=a+b&q=c', 'a b me'],
    ['/DEVELOPER', ' me'],
    ['/9e9b9475-0fc0-47b2-9170-a5b7b9a075ee', ' me'],
  ])('%j lists', async (path, name) => {
    const { status, body } = await get(server.web, path);
    expect([status, body.count, body.tasks[0]?.name]).toEqual([200, 1, name]);
  });

  test.each([taskId, taskId.toUpperCase(), taskId.replaceAll('-', ''), `urn:uuid:${taskId}`, `{${taskId}}`, `%7b${taskId}%7d`])(
    '/me/%s gets',
    async (id) => {
      const { status, body } = await get(server.web, `/me/${id}`);
      expect([status, body.name]).toEqual([200, `id ${taskId}`]);
    },
  );

  test('is the same over HTTP/2', async () => {
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':path': `${root}/me`, ...signedIn });
    const headers = new Promise<Record<string, unknown>>((resolve) => {
      stream.once('response', resolve);
    });
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect(await headers).toMatchObject({ ':status': 200, 'content-type': 'application/json; charset=utf-8' });
    expect(JSON.parse(text)).toMatchObject({ count: 1 });
    session.close();
  });

  test.each<[string, string, Record<string, string>]>([
    ['the header', '/me', { 'coder-session-token': goodToken }],
    ['a bearer', '/me', { authorization: `Bearer ${goodToken}` }],
    ['the cookie', '/me', { cookie: `coder_session_token=${goodToken}` }],
  ])('takes a token in %s', async (_where, path, headers) => {
    expect((await get(server.web, path, headers)).status).toBe(200);
  });

  test.each<[string, string, Record<string, string>]>([
    ['without a token', '/me', {}],
    ['with a wrong token', '/me', { 'coder-session-token': 'x' }],
    ['with a token in the address', `/me?coder_session_token=${goodToken}&access_token=${goodToken}`, {}],
    ['without a token, whatever the user', '/nobody', {}],
    ['without a token, whatever the id', '/me/x', {}],
    ['without a token, whatever the parameters', '?limit=x', {}],
  ])('is 401 %s', async (_case, path, headers) => {
    const answer = await get(server.web, path, headers);
    expect([answer.status, answer.body]).toEqual([401, signedOut]);
    expect(answer.headers.get('www-authenticate')).toBe(
      'Bearer realm="coder", error="invalid_token", error_description="The access token is missing, invalid or expired"',
    );
    expect(answer.headers.get('x-request-id')).toMatch(/^[A-Za-z0-9_-]{14,30}$/);
  });

  test.each<[path: string, status: number, body: unknown]>([
    ['/nobody', 404, nobody],
    ['/bob', 404, nobody],
    ['/%ff', 404, nobody],
    ['/nobody?limit=x', 404, nobody],
    [`/nobody/${taskId}`, 404, nobody],
    ['/bob/x', 404, nobody],
    ['/me/x', 400, { message: 'Invalid UUID "x" for task ID.' }],
    ['/me/%22%0a%3c', 400, { message: 'Invalid UUID "\\"�<" for task ID.' }],
    [`/me/${'y'.repeat(100)}`, 400, { message: `Invalid UUID "${'y'.repeat(64)}…" for task ID.` }],
    [
      '?q=expensive',
      400,
      {
        message: 'Invalid workspace search query.',
        validations: [
          { field: 'q', detail: 'the query reads too much: narrow it, for example with owner:, organization: or status:' },
        ],
      },
    ],
    ['?q=away', 503, { message: 'The database is unavailable, try again.' }],
  ])('%j is %i', async (path, status, body) => {
    const answer = await get(server.web, path);
    expect([answer.status, answer.body]).toEqual([status, body]);
  });

  test('a bug is 500 with the id of the request and nothing more', async () => {
    const { status, headers, body } = await get(server.web, '?q=bug');
    const requestId = headers.get('x-request-id');
    expect([status, body]).toEqual([
      500,
      { message: 'An internal error occurred.', detail: `internal error (request ${requestId})` },
    ]);
    const line = server.log.find((logged) => logged['requestId'] === requestId);
    expect(line).toMatchObject({ level: 'error', code: 'INTERNAL', protocol: 'coder-json', cause: { message: 'secret' } });
  });

  test.each(['HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE'])('%s is 405', async (method) => {
    for (const path of ['', '/me', `/me/${taskId}`]) {
      const answer = await get(server.web, path, signedIn, { method });
      expect(answer.status).toBe(405);
      expect(answer.headers.get('allow')).toBe('GET');
      expect(answer.body).toEqual(method === 'HEAD' ? {} : { message: 'Only GET is served here.' });
    }
  });

  test.each(['/me/x/y', '//x', '/me/x/', 's', '-other'])('%j is no path of it', async (path) => {
    expect(await get(server.web, path)).toMatchObject({ status: 404, body: { code: 'unimplemented' } });
  });

  test('is on the web port alone', async () => {
    expect((await get(server.ops, '/me')).status).toBe(404);
    await expect(get(server.grpc, '/me')).rejects.toThrow('fetch failed');
  });

  test('answers pages of the listed origins alone', async () => {
    for (const [origin, allowed] of [
      ['https://tasks.example.com', 'https://tasks.example.com'],
      ['https://evil.example.com', null],
    ] as const) {
      expect((await get(server.web, '/me', { ...signedIn, origin })).headers.get('access-control-allow-origin')).toBe(allowed);
      const preflight = await get(server.web, '/me', { origin, 'access-control-request-method': 'GET' }, { method: 'OPTIONS' });
      expect(preflight.status).toBe(allowed === null ? 403 : 204);
    }
  });

  test('goes through the one call chain: one line in the log, counted with the other calls', async () => {
    const count = async () => {
      const text = await (await fetch(`http://${server.ops}/metrics`)).text();
      return Number(/^grpc_server_handled_total\{.*grpc_method="GetTask",grpc_code="OK"\} (\d+)$/m.exec(text)?.[1]);
    };
    const before = await count();
    const { headers } = await get(server.web, `/me/${taskId}?q=not-in-the-log`);
    expect(await count()).toBe(before + 1);
    const lines = server.log.filter((line) => line['requestId'] === headers.get('x-request-id'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({
      method: 'tasks.v1.TasksService/GetTask',
      protocol: 'coder-json',
      code: 'OK',
      caller: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee',
      peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    });
    expect(JSON.stringify(server.log)).not.toContain('not-in-the-log');
    expect(JSON.stringify(server.log)).not.toContain(goodToken);
  });

  test.each(['HTTP/1.1', 'HTTP/2'])('a client that hangs up ends its call, over %s', async (version) => {
    const already = entered;
    const canceled = () => server.log.filter((line) => line['protocol'] === 'coder-json' && line['code'] === 'CANCELLED').length;
    const before = canceled();
    if (version === 'HTTP/2') {
      const session = connectHttp2(`http://${server.web}`);
      session.request({ ':path': `${root}?q=slow`, ...signedIn }).on('error', () => {});
      await until('call', () => entered > already);
      session.destroy();
    } else {
      const gone = new AbortController();
      const asking = get(server.web, '?q=slow', signedIn, { signal: gone.signal }).catch(() => {});
      await until('call', () => entered > already);
      gone.abort();
      await asking;
    }
    await until('end of the call', () => canceled() === before + 1);
  });
});

describe('the Coder-shaped JSON while the server stops', () => {
  test('running calls are answered, and the connection is not kept', async () => {
    const release = Promise.withResolvers<void>();
    let running = 0;
    const server = await startTestServer({
      handlers: {
        async listTasks() {
          running += 1;
          await release.promise;
          return create(ListTasksResponseSchema, { tasks: [{ id: String(running) }] });
        },
      },
    });
    const agent = new http.Agent({ keepAlive: true });
    const answers = Array.from(
      { length: 8 },
      () =>
        new Promise<[status: number | undefined, connection: string | undefined]>((resolve, reject) => {
          http
            .get(`http://${server.web}${root}`, { agent, headers: signedIn }, (response) => {
              response.resume();
              resolve([response.statusCode, response.headers.connection]);
            })
            .once('error', reject);
        }),
    );
    await until('calls', () => running === 8);
    const stopped = server.stop();
    await expect(get(server.web, '/me')).rejects.toThrow('fetch failed');
    release.resolve();
    expect(await Promise.all(answers)).toEqual(answers.map(() => [200, 'close']));
    await stopped;
    agent.destroy();
  });

  test('a call that takes too long gets 503', async () => {
    let running = 0;
    const server = await startTestServer({
      drainMs: 50,
      handlers: {
        listTasks() {
          running += 1;
          return new Promise(() => {});
        },
      },
    });
    const asking = get(server.web, '/me');
    await until('call', () => running === 1);
    await server.stop();
    const { status, headers, body } = await asking;
    expect([status, headers.get('retry-after'), body]).toEqual([
      503,
      '1',
      { message: 'The server is shutting down, try again.' },
    ]);
  });
});

/** A token for a user. */
async function tokenFor(database: Database, username: string): Promise<Record<string, string>> {
  const token = await createApiKeyRepository(database).create(username, { lifetimeSeconds: 3600, name: 'test' });
  return { 'coder-session-token': token ?? '' };
}

describeOnServerKinds("the example of Coder's first version", (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let developer: Record<string, string>;
  const ids = 'a7a27450-ca16-4553-a6c5-9d6f04808569,50f92138-f463-4f2b-abad-1816264b065f';
  const example = JSON.parse(readFileSync(new URL('golden/coder-tasks.json', import.meta.url), 'utf8')) as {
    tasks: CoderTask[];
    count: number;
  };
  const exampleKeys = new Set(example.tasks.flatMap((task) => Object.keys(task)));

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    await loadDemo(database, { now: new Date() });
    await projectAll(database);
    developer = await tokenFor(database, 'developer');
    service = await startService(testDatabase.address, { PROJECTOR: 'false', AGENT_INACTIVE_SECONDS: '86400' });
  });
  afterAll(() => endService(service, testDatabase));

  /** The task as the first version of Coder had it. */
  const first = (task: CoderTask | undefined) =>
    Object.fromEntries(Object.entries(task ?? {}).filter(([key]) => exampleKeys.has(key)));

  test.each(['', '/me', '/developer', '/9e9b9475-0fc0-47b2-9170-a5b7b9a075ee'])('%j lists it, value for value', async (path) => {
    const { status, body } = await get(service.web, `${path}?q=owner:me+id:${ids}`, developer);
    expect(status).toBe(200);
    expect(JSON.stringify({ ...body, tasks: body.tasks.map(first) })).toBe(JSON.stringify(example));
  });

  test.each(example.tasks)('gets $name, value for value', async (task) => {
    const { status, body } = await get(service.web, `/me/${task.id}`, developer);
    expect(status).toBe(200);
    expect(JSON.stringify(first(body))).toBe(JSON.stringify(task));
  });

  test('the later fields are beside it', async () => {
    const { body } = await get(service.web, `/me/${example.tasks[0]?.id}`, developer);
    await expect(`${JSON.stringify(body, undefined, 2)}\n`).toMatchFileSnapshot('golden/coder-task.json');
  });

  test('a list has what ListTasks has, in its order', async () => {
    const { body } = await get(service.web, '/me', developer);
    const answer = await fetch(`http://${service.web}/tasks.v1.TasksService/ListTasks`, {
      method: 'POST',
      headers: { ...developer, 'content-type': 'application/json' },
      body: '{"pageSize": 200}',
    });
    const { tasks } = (await answer.json()) as { tasks: { id: string }[] };
    expect(body.tasks.map(({ id }) => id)).toEqual(tasks.map(({ id }) => id));
    expect(body.count).toBeGreaterThan(10);
  });
});

describeOnServerKinds('Coder-shaped JSON over the read model', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let home: Buffer;
  let owner: Record<string, string>;
  let member: Record<string, string>;
  let siteOwner: Record<string, string>;
  let auditor: Record<string, string>;
  let stranger: Record<string, string>;
  let busy: Record<string, string>;
  let busyId: Buffer;
  const taskId = newId();
  const count = 12;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    home = await insertOrganization(database, 'home');
    const away = await insertOrganization(database, 'away');
    const template = await insertTemplate(database, { organizationId: home, name: 'typescript' });
    const ownerId = await insertUser(database, { username: 'owner', memberships: [[home]] });
    await insertUser(database, { username: 'member', memberships: [[home]] });
    await insertUser(database, { username: 'boss', roles: ['owner'] });
    await insertUser(database, { username: 'auditor', memberships: [[home, 'organization-auditor']] });
    await insertUser(database, { username: 'stranger', memberships: [[away]] });
    await insertUser(database, { username: 'gone', deleted: true });
    busyId = await insertUser(database, { username: 'busy', memberships: [[home]] });
    owner = await tokenFor(database, 'owner');
    member = await tokenFor(database, 'member');
    siteOwner = await tokenFor(database, 'boss');
    auditor = await tokenFor(database, 'auditor');
    stranger = await tokenFor(database, 'stranger');
    busy = await tokenFor(database, 'busy');
    const common = { organizationId: home, templateId: template };
    await insertTasks(database, [
      aTask({ ...common, ownerId, id: taskId, name: 'a-first', createdAt: '2026-03-01 12:00:00.123400' }),
      ...Array.from({ length: count - 1 }, (_, at) =>
        aTask({ ...common, ownerId, status: at % 2 === 0 ? WorkspaceStatus.FAILED : WorkspaceStatus.RUNNING }),
      ),
    ]);
    await insertTasks(
      database,
      Array.from({ length: 10_000 }, () => aTask({ ...common, ownerId: busyId, prompt: 'p' })),
    );
    // The rows are made by hand: nothing may project over them. A loaded machine may take its time for a count of 10,000.
    service = await startService(testDatabase.address, { PROJECTOR: 'false', STATEMENT_TIMEOUT_MS: '20000' });
  });
  afterAll(() => endService(service, testDatabase));

  test('three personas list', async () => {
    expect((await get(service.web, '/me', owner)).body.count).toBe(count);
    expect((await get(service.web, '', owner)).body.count).toBe(count);
    expect((await get(service.web, '/me?q=owner:owner+status:failed', siteOwner)).body.count).toBe(6);
    expect((await get(service.web, '?q=status:failed', siteOwner)).body.count).toBe(6);
    expect((await get(service.web, '/me', siteOwner)).body).toEqual({ tasks: [], count: 0 });
    expect((await get(service.web, '?q=owner:me', siteOwner)).body.count).toBe(0);
    for (const token of [member, stranger]) expect((await get(service.web, '', token)).body).toEqual({ tasks: [], count: 0 });
  });

  test('without an owner the path decides whose tasks a query means, whatever its keys', async () => {
    const id = formatUuid(taskId);
    for (const q of ['organization:home', `organization:${formatUuid(home)}`, `id:${id}`, `id:${id}+status:running`]) {
      expect((await get(service.web, `/me?q=${q}`, siteOwner)).body, q).toEqual({ tasks: [], count: 0 });
      expect((await get(service.web, `/me?q=${q}`, owner)).body.count, q).toBeGreaterThan(0);
      expect((await get(service.web, `?limit=20&q=${q}`, siteOwner)).body.count, q).toBeGreaterThan(0);
      expect((await get(service.web, `/me?q=${q}+owner:owner`, siteOwner)).body.count, q).toBeGreaterThan(0);
    }
  });

  test('a token that reads no tasks knows of no user, and its list without one is empty', async () => {
    const { database } = testDatabase;
    const apps = await tokenFor(database, 'owner');
    const [id] = (apps['coder-session-token'] ?? '').split('-');
    await database('api_keys').where('api_keys.id', id).update({ scope: 'application_connect' });
    for (const path of ['/me', '/owner', '/OWNER?q=x', '/me?limit=x', `/me/${formatUuid(taskId)}`, '/me/x']) {
      expect(await get(service.web, path, apps), path).toMatchObject({ status: 404, body: nobody });
    }
    expect(await get(service.web, '', apps)).toMatchObject({ status: 200, body: { tasks: [], count: 0 } });
  });

  test('the user of the path filters nothing', async () => {
    expect((await get(service.web, '/owner', siteOwner)).body.count).toBe(0);
    expect((await get(service.web, `/boss/${formatUuid(taskId)}`, siteOwner)).body.name).toBe('a-first');
  });

  test('three personas get', async () => {
    const path = `/me/${formatUuid(taskId)}`;
    for (const token of [owner, siteOwner]) {
      expect((await get(service.web, path, token)).body).toMatchObject({
        id: formatUuid(taskId),
        workspace_id: formatUuid(taskId),
        name: 'a-first',
        status: 'running',
        template_name: 'typescript',
        created_at: '2026-03-01T12:00:00.1234Z',
        updated_at: '2026-01-01T00:00:00Z',
        current_state: { timestamp: '2026-01-01T00:00:00Z', state: 'working', message: '', uri: '' },
      });
    }
    for (const token of [member, auditor, stranger]) {
      expect(await get(service.web, path, token)).toMatchObject({ status: 404, body: nobody });
    }
    expect(await get(service.web, `/me/${formatUuid(newId())}`, siteOwner)).toMatchObject({ status: 404, body: nobody });
  });

  test.each<[string, user: () => string, () => Record<string, string>, status: number]>([
    ['oneself', () => 'owner', () => owner, 200],
    ['oneself in capitals', () => 'OWNER', () => owner, 200],
    ['another, as a member', () => 'owner', () => member, 404],
    ['another by id, as a member', () => formatUuid(busyId), () => member, 404],
    ['another, as the auditor of the organization', () => 'Owner', () => auditor, 200],
    ['another of no organization, as its auditor', () => 'boss', () => auditor, 404],
    ['another, as the site owner', () => 'stranger', () => siteOwner, 200],
    ['another by id, as the site owner', () => formatUuid(busyId), () => siteOwner, 200],
    ['nobody, as the site owner', () => 'nobody', () => siteOwner, 404],
    ['nobody by id, as the site owner', () => formatUuid(newId()), () => siteOwner, 404],
    ['a deleted user, as the site owner', () => 'gone', () => siteOwner, 404],
    ['an SQL string, as the site owner', () => encodeURIComponent("' or 1=1 -- "), () => siteOwner, 404],
  ])('a path that names %s', async (_who, user, token, status) => {
    const answer = await get(service.web, `/${user()}`, token());
    expect(answer.status).toBe(status);
    if (status === 404) expect(answer.body).toEqual(nobody);
  });

  test('every limit and offset gives its slice of the whole', async () => {
    const all = (await get(service.web, '/me?limit=0', owner)).body.tasks.map(({ id }) => id);
    expect(new Set(all).size).toBe(count);
    for (let limit = 1; limit <= count + 1; limit++) {
      for (const offset of [0, 1, count - 1, count, count + 1, 10_000]) {
        const { body } = await get(service.web, `/me?limit=${limit}&offset=${offset}`, owner);
        const expected = all.slice(offset, offset + limit);
        expect(
          body.tasks.map(({ id }) => id),
          `limit ${limit}, offset ${offset}`,
        ).toEqual(expected);
        expect(body.count).toBe(expected.length);
      }
    }
  });

  test.each<[string, string, CoderErrorBody]>([
    [
      'all bad parameters at once',
      '?limit=-1&offset=1&offset=2&after_id=x',
      {
        message: 'Query parameters have invalid values.',
        validations: [
          { field: 'after_id', detail: 'Query param "after_id" must be a valid uuid' },
          { field: 'limit', detail: 'Query param "limit" must be a valid 32-bit positive integer' },
          { field: 'offset', detail: 'Query param "offset" provided more than once, found 2 times' },
        ],
      },
    ],
    [
      'all bad keys at once',
      '?q=colour:red+status:odd',
      {
        message: 'Invalid workspace search query.',
        validations: [
          { field: 'status', detail: expect.stringContaining('"odd" is not a valid value') as string },
          { field: 'colour', detail: expect.stringContaining('"colour" is not a valid query key') as string },
        ],
      },
    ],
    [
      'an invalid query',
      '?q=:x',
      {
        message: 'Invalid workspace search query.',
        validations: [{ field: 'q', detail: '":x" must not start or end with ":" (at position 0)' }],
      },
    ],
    [
      'a query of 5 kB',
      `?q=${'x'.repeat(5000)}`,
      {
        message: 'Invalid workspace search query.',
        validations: [{ field: 'q', detail: 'must be at most 4096 bytes long' }],
      },
    ],
  ])('%s', async (_case, path, body) => {
    for (const user of ['', '/me']) {
      const answer = await get(service.web, `${user}${path}`, owner);
      expect([answer.status, answer.body]).toEqual([400, body]);
    }
  });

  describe('in the shape of newer versions', () => {
    const ask = async (path: string, token: Record<string, string>) => {
      const response = await fetch(`http://${service.web}/api/v2/tasks${path}`, { headers: token });
      return { status: response.status, body: (await response.json()) as Answer['body'] };
    };
    const list = async (q: string, token: Record<string, string>) => {
      const { status, body } = await ask(`?q=${encodeURIComponent(q)}`, token);
      expect(status, q).toBe(200);
      return listOf(stableTask).parse(body);
    };

    test('personas list: everything that they may read, the newest first', async () => {
      const mine = await list('', owner);
      expect(mine.count).toBe(count);
      const created = mine.tasks.map(({ created_at }) => created_at);
      expect(created).toEqual(created.toSorted((a, b) => Date.parse(b) - Date.parse(a)));
      for (const q of [
        'owner:"me"',
        'owner',
        'OWNER:Owner',
        'organization:"home"',
        `organization:${formatUuid(home)} owner:me`,
      ]) {
        expect((await list(q, owner)).count, q).toBe(count);
      }
      for (const q of ['', 'owner:me', 'organization:away']) expect((await list(q, stranger)).count, q).toBe(0);
      expect((await list('owner:owner', siteOwner)).count).toBe(count);
    });

    test('the six statuses part the list', async () => {
      const whole = await list('owner:me', owner);
      const parts = await Promise.all(
        ['pending', 'initializing', 'active', 'paused', 'unknown', 'error'].map(async (status) => {
          const part = await list(`owner:me status:${status}`, owner);
          expect(part.tasks.filter((task) => task.status !== status)).toEqual([]);
          return part.count;
        }),
      );
      expect(parts.reduce((sum, part) => sum + part)).toBe(whole.count);
    });

    test('a task is got by id and by name, by its owner and by who may read it, and else not', async () => {
      for (const path of [`/me/${formatUuid(taskId)}`, '/me/a-first', '/OWNER/A-First', '/owner/a-first/']) {
        const { status, body } = await ask(path, owner);
        expect([status, stableTask.parse(body).id], path).toEqual([200, formatUuid(taskId)]);
      }
      expect((await ask('/owner/a-first', siteOwner)).body.id).toBe(formatUuid(taskId));
      for (const path of [`/me/${formatUuid(taskId)}`, '/owner/a-first', '/me/a-first', '/gone/a-first']) {
        const { status, body } = await ask(path, member);
        expect([status, body], path).toEqual([404, { message: 'Resource not found or you do not have access to this resource' }]);
      }
    });

    test.each(['owner:gone', 'owner:busy', 'organization:away', 'organization:none'])('%j is refused a member', async (q) => {
      expect(await ask(`?q=${q}`, member)).toEqual({
        status: 400,
        body: {
          message: 'Invalid task search query.',
          validations: [{ field: q.split(':')[0], detail: expect.stringContaining('does not exist') as string }],
        },
      });
    });
  });

  test('10,000 tasks are one answer, and one more is an error', async () => {
    const { status, body } = await get(service.web, '/me', busy);
    expect([status, body.count]).toEqual([200, 10_000]);
    expect(new Set(body.tasks.map(({ id }) => id)).size).toBe(10_000);

    const { database } = testDatabase;
    const late = aTask({ ownerId: busyId, organizationId: home, name: 'zz-last' });
    await insertTasks(database, [late]);
    const tooLong = {
      message: 'Query parameters have invalid values.',
      validations: [{ field: 'limit', detail: expect.stringContaining('more than 10000 tasks') as string }],
    };
    for (const path of ['/me', '/me?limit=0', '/me?limit=10001', '/me?limit=2147483647', '?q=owner:busy']) {
      const answer = await get(service.web, path, path.startsWith('?') ? siteOwner : busy);
      expect([answer.status, answer.body], path).toEqual([400, tooLong]);
    }
    expect((await get(service.web, '/me?limit=10000', busy)).body.count).toBe(10_000);
    expect((await get(service.web, '/me?offset=1', busy)).body.count).toBe(10_000);
    const last = (await get(service.web, '/me?offset=10000', busy)).body;
    expect(last.tasks.map(({ name }) => name)).toEqual(['zz-last']);
    expect(last.count).toBe(1);
    expect(await get(service.web, '/me?offset=10001', busy)).toMatchObject({
      status: 400,
      body: { validations: [{ field: 'offset', detail: 'Query param "offset" must be at most 10000' }] },
    });
  });

  test('nothing of a request but its method is in the log', () => {
    const text = service.output();
    expect(text).toContain('"protocol":"coder-json"');
    expect(text).not.toContain('a-first');
    expect(text).not.toContain('colour');
    for (const headers of [owner, member, siteOwner]) expect(text).not.toContain(headers['coder-session-token']);
  });
});
