import { setTimeout as sleep } from 'node:timers/promises';
import { Code, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { reasonOf } from '../../src/call/errors.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { type ListTasksResponse, TaskState, TasksService, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import {
  insertRunningTask,
  insertSource,
  insertStatus,
  now,
  type SourceTaskIds,
  type SourceValues,
} from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';
import { until } from '../support/test-server.ts';
import { type OpenWatch, Watching, watchOver, watchOverGrpcJs } from '../support/watching.ts';

const readers = (permission: string, ...ids: readonly Buffer[]): string =>
  JSON.stringify(Object.fromEntries(ids.map((id) => [formatUuid(id), { permissions: [permission] }])));

describeOnServerKinds('watching', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: RunningService;
  let other: RunningService;
  const organization = newId();
  const people: Record<'owner' | 'member' | 'stranger' | 'admin', Buffer> = {
    owner: Buffer.alloc(0),
    member: Buffer.alloc(0),
    stranger: Buffer.alloc(0),
    admin: Buffer.alloc(0),
  };
  const tokens: Record<keyof typeof people, string> = { owner: '', member: '', stranger: '', admin: '' };
  const open: Watching[] = [];

  const start = (env: Record<string, string> = {}): Promise<RunningService> =>
    startService(testDatabase.address, { AUTH_CACHE_SECONDS: '1', ...env });
  const task = (name: string, values: SourceValues = {}) =>
    insertRunningTask(database, { name, owner_id: people.owner, organization_id: organization, ...values });
  const change = (workspace: Buffer, values: SourceValues) => database('workspaces').where('id', workspace).update(values);
  const report = (ids: Pick<SourceTaskIds, 'workspace' | 'agent' | 'app'>, state: string, message = state) =>
    insertStatus(database, ids, state, message);

  /** Watches as somebody; with the initial state if nothing else is said. */
  function watch(
    who: keyof typeof people,
    request: ConstructorParameters<typeof Watching>[1] = {},
    options: { readonly open?: OpenWatch; readonly token?: string } & ConstructorParameters<typeof Watching>[3] = {},
  ): Watching {
    const watching = new Watching(
      options.open ?? watchOverGrpcJs(service.grpc),
      { includeInitial: true, ...request },
      options.token ?? tokens[who],
      options,
    );
    open.push(watching);
    return watching;
  }

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    const keys = createApiKeyRepository(database);
    await insertSource(database, 'organizations', { id: organization, name: 'acme', created_at: now(), updated_at: now() });
    for (const username of Object.keys(people) as (keyof typeof people)[]) {
      people[username] = await insertUser(database, {
        username,
        roles: username === 'admin' ? ['owner'] : [],
        memberships: username === 'owner' || username === 'member' ? [[organization]] : [],
      });
      tokens[username] = (await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    }
    service = await start();
    other = await start({ PROJECTOR: 'false' });
  });
  afterEach(async () => {
    for (const watching of open.splice(0)) watching.stop();
    for (const table of ['workspaces', 'workspace_app_statuses']) await database(table).delete();
    await until('an empty read model', async () => (await database('workspace_tasks').limit(1)).length === 0);
  });
  afterAll(async () => {
    await Promise.all([service.stop(), other.stop()]);
    await testDatabase.drop();
  });

  describe.each([
    ['gRPC, grpc-js', () => watchOverGrpcJs(service.grpc)],
    ['gRPC, connect-node', () => watchOver(createGrpcTransport({ baseUrl: `http://${service.grpc}` }))],
    ['gRPC-Web', () => watchOver(createGrpcWebTransport({ baseUrl: `http://${service.web}`, httpVersion: '1.1' }))],
    ['Connect', () => watchOver(createConnectTransport({ baseUrl: `http://${service.web}`, httpVersion: '1.1' }))],
    ['Connect over HTTP/2', () => watchOver(createConnectTransport({ baseUrl: `http://${service.web}`, httpVersion: '2' }))],
    ['gRPC, on a process without a projector', () => watchOverGrpcJs(other.grpc)],
  ] as const)('over %s', (_, make) => {
    test('tells what is there, what comes, what changes and what goes', async () => {
      const one = await task('one');
      await task('of-somebody-else', { owner_id: people.member });
      await projected(database);
      const watching = await watch('owner', {}, { open: make() }).synced();
      expect(watching.told).toEqual(['+ one', 'synced']);

      const two = await task('two');
      await watching.has('one', 'two');
      await report(one, 'idle', 'Done. What next?');
      await until('the state', () => watching.tasks.get(formatUuid(one.workspace))?.currentState?.state === TaskState.IDLE);
      expect(watching.tasks.get(formatUuid(one.workspace))?.currentState?.message).toBe('Done. What next?');
      await change(two.workspace, { deleted: 1 });
      await watching.has('one');
      await database('workspaces').where('id', one.workspace).delete();
      await watching.has();
      expect(watching.ended).toBeUndefined();
    });

    test('takes away what stops matching, and what may no longer be read', async () => {
      const ids = await task('shared', { user_acl: readers('read', people.member) });
      await projected(database);
      const working = await watch('owner', { query: 'state:working' }, { open: make() }).synced();
      const shared = await watch('member', { query: 'owner:*' }, { open: make() }).synced();
      expect([working.names, shared.names]).toEqual([['shared'], ['shared']]);
      await report(ids, 'complete');
      await working.has();
      await change(ids.workspace, { user_acl: '{}' });
      await shared.has();
      expect(working.told.at(-1)).toBe(`- ${formatUuid(ids.workspace)}`);
    });

    test('goes on with a token where it was', async () => {
      const one = await task('one');
      await projected(database);
      const first = await watch('owner', {}, { open: make() }).synced();
      first.stop();
      await until('the end', () => first.ended);
      await change(one.workspace, { deleted: 1 });
      await task('two');
      await projected(database);
      const second = await watch('owner', { resumeToken: first.token }, { open: make(), known: first.tasks }).synced();
      expect(second.told).toEqual([`- ${formatUuid(one.workspace)}`, '+ two', 'synced']);
      expect(second.names).toEqual(['two']);
    });

    test('ends at once with its deadline', async () => {
      const began = performance.now();
      const watching = watch('owner', {}, { open: make(), timeoutMs: 500 });
      expect((await watching.error()).code).toBe(Code.DeadlineExceeded);
      expect(performance.now() - began).toBeLessThan(3000);
    });
  });

  describe('after a list', () => {
    /** The first page of a list with its resume token, and its tasks by id. */
    async function list(who: keyof typeof people, query = '') {
      const client = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      const headers = { 'coder-session-token': tokens[who] };
      const { tasks, resumeToken } = await client.listTasks({ query, pageSize: 200, includeResumeToken: true }, { headers });
      return { resumeToken, known: new Map(tasks.map((each) => [each.id, each])) };
    }

    /** All pages of a list, of a task each. */
    async function pagesOf(who: keyof typeof people): Promise<ListTasksResponse[]> {
      const client = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      const headers = { 'coder-session-token': tokens[who] };
      const pages: ListTasksResponse[] = [];
      do {
        const pageToken = pages.at(-1)?.nextPageToken ?? '';
        pages.push(await client.listTasks({ pageSize: 1, pageToken, includeResumeToken: true }, { headers }));
      } while (pages.at(-1)?.nextPageToken !== '');
      return pages;
    }

    test('tells what has changed since, and nothing else', async () => {
      const one = await task('one');
      await task('unchanged');
      await projected(database);
      const { resumeToken, known } = await list('owner', 'owner:me');
      await change(one.workspace, { deleted: 1 });
      await task('two');
      await projected(database);
      const watching = await watch('owner', { query: 'owner:me', resumeToken }, { known }).synced();
      expect(watching.told).toEqual([`- ${formatUuid(one.workspace)}`, '+ two', 'synced']);
      await change(one.workspace, { deleted: 0 });
      await watching.has('one', 'two', 'unchanged');
    });

    test('misses nothing, however much changes meanwhile', async () => {
      const ids = await Promise.all(Array.from({ length: 10 }, (_, index) => task(`task-${index}`)));
      let isWriting = true;
      const writing = (async () => {
        for (let round = 0; isWriting; round++) {
          for (const [index, { workspace }] of ids.entries()) await change(workspace, { name: `task-${index}-${round}` });
        }
      })();
      const watchings: Watching[] = [];
      for (let round = 0; round < 20; round++) {
        const { resumeToken, known } = await list('owner');
        watchings.push(watch('owner', { resumeToken }, { known }));
        await sleep(20);
      }
      isWriting = false;
      await writing;
      const names = (await database('workspaces').select('workspaces.name')).map(({ name }) => String(name));
      for (const watching of watchings) await watching.has(...names);
    });

    test('the token is for the same caller, query and rights alone, and no other list has one', async () => {
      await task('one', { user_acl: readers('read', people.member) });
      await projected(database);
      const { resumeToken } = await list('owner', 'owner:me');
      expect((await watch('owner', { query: 'owner:*', resumeToken }).error()).code).toBe(Code.InvalidArgument);
      expect((await watch('member', { query: 'owner:me', resumeToken }).error()).code).toBe(Code.InvalidArgument);
      const member = await list('member', 'owner:*');
      expect(member.known.size).toBe(1);
      await database('users').where('users.id', people.member).update({ rbac_roles: '["owner"]' });
      await sleep(1500); // AUTH_CACHE_SECONDS
      const refused = await watch('member', { query: 'owner:*', resumeToken: member.resumeToken }).error();
      expect(reasonOf(refused)).toBe('RESUME_TOKEN_EXPIRED');
      await database('users').where('users.id', people.member).update({ rbac_roles: '[]' });
      expect((await list('owner', 'has-agent:connected')).resumeToken).toBe('');
      await task('two');
      await projected(database);
      expect((await pagesOf('owner')).map(({ resumeToken: token }) => token === '')).toEqual([false, true]);
      expect((await list('owner', 'template:nothing-has-this-name')).resumeToken).not.toBe('');
    });
  });

  test('a task that comes to match a query, and stops matching it', async () => {
    const ids = await task('switching');
    await projected(database);
    const idle = await watch('owner', { query: 'state:idle' }).synced();
    const waiting = await watch('owner', { query: 'waiting:true name:switch', includeInitial: false }).synced();
    expect(idle.names).toEqual([]);
    await report(ids, 'idle');
    await Promise.all([idle.has('switching'), waiting.has('switching')]);
    await report(ids, 'working');
    await Promise.all([idle.has(), waiting.has()]);
    await change(ids.workspace, { name: 'another' });
    await report(ids, 'idle');
    await idle.has('another');
    expect(waiting.names).toEqual([]);
  });

  test('is not told of the end of tasks that it never had', async () => {
    const running = await task('running');
    await projected(database);
    const watching = await watch('admin', { query: 'owner:* status:failed' }).synced();
    await report(running, 'idle');
    await change(running.workspace, { deleted: 1 });
    const failing = await task('failing');
    await database('provisioner_jobs').where('id', failing.job).update({ error: 'no disk' });
    await watching.has('failing');
    expect(watching.tasks.get(formatUuid(failing.workspace))?.status).toBe(WorkspaceStatus.FAILED);
    expect(watching.told).toEqual(['synced', '+ failing']);
  });

  test('the owner, a member, a stranger and an admin each see their own', async () => {
    const everybody = await Promise.all(
      (['owner', 'member', 'stranger', 'admin'] as const).map((who) => watch(who, { query: 'owner:*' }).synced()),
    );
    const [owner, member, stranger, admin] = everybody as [Watching, Watching, Watching, Watching];
    const ids = await task('private');
    await Promise.all([owner.has('private'), admin.has('private')]);
    await change(ids.workspace, { user_acl: readers('read', people.member) });
    await member.has('private');
    await change(ids.workspace, { user_acl: '{}' });
    await member.has();
    await change(ids.workspace, { owner_id: people.member });
    await Promise.all([owner.has(), member.has('private')]);
    await change(ids.workspace, { deleted: 1 });
    await Promise.all([member.has(), admin.has()]);
    expect(stranger.told).toEqual(['synced']);
  });

  test('what leaves and what comes when roles and memberships change', async () => {
    await task('theirs');
    await task('mine', { owner_id: people.stranger });
    await projected(database);
    const watching = await watch('stranger', { query: 'owner:*' }).synced();
    const selective = await watch('stranger', { query: 'owner:* name:their', includeInitial: false }).synced();
    expect(watching.names).toEqual([]); // not even a member where their own task is
    const membership = { organization_id: organization, user_id: people.stranger, created_at: now(), updated_at: now() };
    await database('organization_members').insert({ ...membership, roles: '[]' });
    await watching.has('mine');
    await database('organization_members').where('user_id', people.stranger).update({ roles: '["organization-admin"]' });
    await Promise.all([watching.has('mine', 'theirs'), selective.has('theirs')]);
    await database('organization_members').where('user_id', people.stranger).delete();
    await Promise.all([watching.has(), selective.has()]);
    expect(watching.ended).toBeUndefined();
  });

  test('who lost the rights is told of nothing that came later', async () => {
    await task('known');
    await projected(database);
    const watching = await watch('admin', { query: 'owner:*', includeInitial: false }).synced();
    await database('users').where('id', people.admin).update({ rbac_roles: '[]' });
    await until('the end of what was known', () => watching.told.some((one) => one.startsWith('- ')));
    const before = watching.told.length;
    const secret = await task('secret');
    await projected(database);
    await change(secret.workspace, { name: 'still-secret' });
    await projected(database);
    await database('users').where('id', people.admin).update({ rbac_roles: '["owner"]' });
    await watching.has('known', 'still-secret');
    expect(watching.told.slice(before).filter((one) => one.startsWith('-'))).toEqual([]);
  });

  test('a resumed watch is told everything since, once, and what it lost meanwhile', async () => {
    const [kept, shared, gone, foreign] = await Promise.all([
      task('kept'),
      task('shared', { user_acl: readers('read', people.member) }),
      task('gone', { owner_id: people.member }),
      task('foreign'),
    ]);
    await projected(database);
    const first = await watch('member', { query: 'owner:*' }).synced();
    await first.has('gone', 'shared');
    first.stop();
    await until('the end', () => first.ended);

    await report(kept, 'idle'); // nobody's business
    await change(shared.workspace, { user_acl: '{}' });
    await change(gone.workspace, { deleted: 1 });
    await change(foreign.workspace, { user_acl: readers('read', people.stranger) });
    await change(foreign.workspace, { user_acl: '{}' });
    await task('new', { owner_id: people.member });
    await projected(database);

    const request = { query: 'owner:*', resumeToken: first.token, includeInitial: false };
    const second = await watch('member', request, { open: watchOverGrpcJs(other.grpc), known: first.tasks }).synced();
    expect(second.names).toEqual(['new']);
    expect(second.told.toSorted()).toEqual(
      ['+ new', `- ${formatUuid(gone.workspace)}`, `- ${formatUuid(shared.workspace)}`, 'synced'].toSorted(),
    );
    // Every token between is as good: from it on comes the rest, and nothing before.
    const third = await watch('member', { ...request, resumeToken: second.token }).synced();
    expect(third.told).toEqual(['synced']);
  });

  test('an initial state that broke off goes on where it was', async () => {
    const names = Array.from({ length: 7 }, (_, i) => `task-${i}`);
    for (const name of names) await task(name);
    await projected(database);
    const broken = watchOverGrpcJs(service.grpc)({ includeInitial: true }, { headers: { 'coder-session-token': tokens.owner } })[
      Symbol.asyncIterator
    ]();
    const first = await broken.next();
    const second = await broken.next();
    await broken.return?.();
    if (first.done === true || second.done === true) throw new Error('the stream has ended');
    expect(first.value.event.value).toMatchObject({ name: 'task-6' });
    const ids = await task('later');
    await projected(database);
    const rest = await watch('owner', { resumeToken: second.value.resumeToken }).synced();
    expect(rest.told).toEqual(['+ task-4', '+ task-3', '+ task-2', '+ task-1', '+ task-0', '+ later', 'synced']);
    expect(ids).toBeDefined();
  });

  describe('a token', () => {
    const tokenOf = async (request: { query?: string } = {}): Promise<string> => (await watch('owner', request).synced()).token;

    test.each([
      ['is edited', (token: string) => `${token.startsWith('gQ') ? 'gg' : 'gQ'}${token.slice(2)}`],
      ['is cut', (token: string) => token.slice(0, -4)],
      ['is not a token', () => 'no token'],
      ['is long', () => 'A'.repeat(10_000)],
    ] as const)('that %s is refused', async (_, edit) => {
      const error = await watch('owner', { resumeToken: edit(await tokenOf()) }).error();
      expect(error.code).toBe(Code.InvalidArgument);
      expect(error.message).toContain('resume_token');
    });

    test('of another query or caller is refused', async () => {
      const token = await tokenOf({ query: 'owner:me' });
      expect((await watch('owner', { resumeToken: token }).error()).code).toBe(Code.InvalidArgument);
      expect((await watch('admin', { resumeToken: token, query: 'owner:me' }).error()).code).toBe(Code.InvalidArgument);
    });

    test('of before a change of rights, or of another feed, must begin anew', async () => {
      const token = await tokenOf();
      await database('organization_members').where('user_id', people.owner).update({ roles: '["organization-admin"]' });
      await sleep(1100); // AUTH_CACHE_SECONDS
      const error = await watch('owner', { resumeToken: token }).error();
      expect([error.code, reasonOf(error)]).toEqual([Code.OutOfRange, 'RESUME_TOKEN_EXPIRED']);
      await database('organization_members').where('user_id', people.owner).update({ roles: '[]' });
      await sleep(1100);
      await watch('owner', { resumeToken: token }).synced();

      const present = await watch('owner').synced();
      await projectAll(database);
      expect((await present.error()).code).toBe(Code.OutOfRange);
      expect((await watch('owner', { resumeToken: token }).error()).code).toBe(Code.OutOfRange);
    });

    test('older than the feed must begin anew', async () => {
      const token = await tokenOf();
      await task('one');
      await projected(database);
      const [state] = (await database('projector_state')) as [{ seq: number; floor_seq: number }];
      await database('projector_state').update({ floor_seq: state.seq });
      expect((await watch('owner', { resumeToken: token }).error()).code).toBe(Code.OutOfRange);
      await database('projector_state').update({ floor_seq: state.floor_seq });
    });
  });

  test.each(['has-agent:connected', 'healthy:true', 'status:nonsense', 'owner:a:b'])(
    'the query "%s" is refused',
    async (query) => {
      const error = await watch('owner', { query }).error();
      expect([error.code, reasonOf(error)]).toEqual([Code.InvalidArgument, 'INVALID_QUERY']);
    },
  );

  test('a watch ends when its token is revoked, or its user suspended', async () => {
    const keys = createApiKeyRepository(database);
    const token = (await keys.create('member', { lifetimeSeconds: 3600, name: 'to revoke' })) ?? '';
    const short = (await keys.create('member', { lifetimeSeconds: 2, name: 'short' })) ?? '';
    const revoked = await watch('member', {}, { token }).synced();
    const expires = await watch('member', {}, { token: short }).synced();
    await keys.revoke(token.slice(0, 10));
    expect((await revoked.error()).code).toBe(Code.Unauthenticated);
    expect((await expires.error()).code).toBe(Code.Unauthenticated);
    const suspended = await watch('member').synced();
    await database('users').where('id', people.member).update({ status: 'suspended' });
    expect((await suspended.error()).code).toBe(Code.Unauthenticated);
    await database('users').where('id', people.member).update({ status: 'active' });
    expect((await watch('member', {}, { token: 'aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaa' }).error()).code).toBe(Code.Unauthenticated);
  });

  test('a process that stops says a last word, and another one goes on from it', async () => {
    const leaving = await start({ PROJECTOR: 'false' });
    const watching = await watch('owner', {}, { open: watchOverGrpcJs(leaving.grpc) }).synced();
    await task('while-it-ran');
    await watching.has('while-it-ran');
    const stopped = leaving.stop();
    const error = await watching.error();
    expect([error.code, reasonOf(error)]).toEqual([Code.Unavailable, 'SHUTTING_DOWN']);
    expect(watching.told.at(-1)).toBe('heartbeat');
    expect(await stopped).toBe(0);
    await task('while-it-was-gone');
    await projected(database);
    const next = await watch('owner', { resumeToken: watching.token }, { known: watching.tasks }).synced();
    expect(next.told).toEqual(['+ while-it-was-gone', 'synced']);
  });

  test('no event is lost while nobody projects', async () => {
    const watching = await watch('owner', {}, { open: watchOverGrpcJs(other.grpc) }).synced();
    await service.stop('SIGKILL');
    await task('meanwhile');
    expect(watching.names).toEqual([]);
    service = await start();
    await watching.has('meanwhile');
  });

  test('a user has so many watches and no more', async () => {
    const few = await start({ PROJECTOR: 'false', WATCHES_PER_CALLER: '2' });
    try {
      const opener = watchOverGrpcJs(few.grpc);
      const [one] = await Promise.all([1, 2].map(() => watch('owner', {}, { open: opener }).synced()));
      const error = await watch('owner', {}, { open: opener }).error();
      expect([error.code, reasonOf(error)]).toEqual([Code.ResourceExhausted, 'RATE_LIMITED']);
      await watch('admin', {}, { open: opener }).synced();
      one?.stop();
      await until('a free place', async () => {
        const next = watch('owner', {}, { open: opener });
        await until('an answer', () => next.ended !== undefined || next.told.includes('synced'));
        return next.told.includes('synced');
      });
    } finally {
      await few.stop();
    }
  });
});

/** Waits until the outbox is empty: everything that was committed is in the feed. */
async function projected(database: Database): Promise<void> {
  await until('an empty outbox', async () => (await database('workspace_changes').limit(1)).length === 0);
}
