import { randomBytes } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { prepareDemo } from '../../dev/demo/prepare-demo.ts';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { openReplica } from '../../src/db/replica.ts';
import { GetTaskRequestSchema, ListTasksRequestSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createProjector } from '../../src/projection/projector.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { type AccountKind, accounts, grantsFor } from '../../src/schema/grants.ts';
import { migrateDown, migrateUp } from '../../src/schema/migrations.ts';
import { missingTriggers, triggerNames } from '../../src/schema/triggers.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { type RunningService, startService } from '../support/service.ts';
import { createTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';

/** Queries that between them look into every table that lists read. */
const queries = [
  '',
  'owner:*',
  'owner:* status:running',
  'owner:* name:task',
  'owner:* waiting:true',
  'owner:* has-agent:connected',
  'owner:* param:region',
  'owner:* outdated:true',
  'owner:* has_external_agent:true',
  'owner:* last_used_after:2020-01-01',
  'owner:* prompt:test',
  'owner:* shared:true',
  'shared_with_user:me',
  'shared_with_group:atlas/Everyone',
  'owner:* template:docker',
  'owner:teammate',
  'organization:atlas',
  'dormant:true owner:*',
  'status:deleted owner:*',
];

const users = ['admin', 'developer', 'teammate', 'outsider'] as const;

/** The answer of a list. Others than the admin may ask for names that they may not know of. */
async function ok<T>(listing: Promise<T>, user: (typeof users)[number]): Promise<T | undefined> {
  return listing.catch((error: unknown) => {
    if (user === 'admin' || ConnectError.from(error).code !== Code.InvalidArgument) throw error;
    return undefined;
  });
}

describeOnEngines('the rights that migrate grants prints', (engine) => {
  let testDatabase: TestDatabase;
  let root: Database;
  let tokens: Readonly<Record<string, string>>;
  const suffix = randomBytes(4).toString('hex');
  const password = randomBytes(12).toString('base64url');
  const kinds = Object.keys(accounts) as AccountKind[];
  const nameOf = (kind: AccountKind): string => `${kind}_${suffix}`;
  const addressOf = (kind: AccountKind): DatabaseAddress => ({ ...testDatabase.address, user: nameOf(kind), password });
  const pools = new Map<AccountKind, Database>();
  const as = (kind: AccountKind): Database => {
    const pool = pools.get(kind) ?? openDatabase(addressOf(kind), { size: 2, statementTimeoutMs: 30_000 });
    pools.set(kind, pool);
    return pool;
  };
  const grant = async (kind: AccountKind): Promise<void> => {
    const account = `'${nameOf(kind)}'@'%'`;
    await root.raw(`create user ${account} identified by '${password}'`);
    for (const statement of grantsFor(kind, testDatabase.address.database, account)) await root.raw(statement);
  };

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine, { migrate: false });
    root = testDatabase.database;
    await grant('migrate');
    await migrateUp(as('migrate'), { triggers: true });
    for (const kind of kinds) if (kind !== 'migrate') await grant(kind);
    tokens = await prepareDemo(testDatabase.address);
  }, 60_000);
  afterAll(async () => {
    await Promise.all(Array.from(pools.values(), (pool) => closeDatabase(pool)));
    for (const kind of kinds) await root.raw(`drop user if exists '${nameOf(kind)}'@'%'`);
    await testDatabase.drop();
  });

  test('migrate makes tables and triggers, removes them again, and makes session tokens', async () => {
    await migrateDown(as('migrate'), { all: true });
    await migrateUp(as('migrate'), { triggers: true });
    expect(await missingTriggers(as('migrate'))).toEqual([]);
    tokens = await prepareDemo(testDatabase.address);
    const keys = createApiKeyRepository(as('migrate'));
    const token = (await keys.create('developer', { lifetimeSeconds: 60, name: 'x' })) ?? '';
    expect(await keys.list('developer')).not.toEqual([]);
    expect(await keys.revoke(token.slice(0, 10))).toBe(true);
  });

  test('project rebuilds, follows, repairs and verifies', async () => {
    await root('workspace_tasks').delete();
    await root('workspace_task_acl').delete();
    expect((await projectAll(as('project'))).deadLetters).toBe(0);
    const errors: unknown[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void errors.push(JSON.parse(line)) });
    const projector = createProjector({ address: addressOf('project'), log });
    projector.start();
    await root('workspaces').update({ 'workspaces.favorite': root.raw('1 - workspaces.favorite') });
    await root('workspaces').limit(1).delete();
    const waiting = async () => (await root('workspace_changes').count({ count: '*' }).first())?.['count'];
    await expect.poll(waiting, { timeout: 20_000 }).toBe(0);
    await projector.stop();
    expect(errors).toEqual([]);
    const differences: unknown[] = [];
    expect(await verify(as('project'), (difference) => void differences.push(difference))).toBe(0);
  });

  test('serve answers every call, notes the use of sessions, and is ready', async () => {
    const [id = ''] = (tokens['developer'] ?? '').split('-');
    await root('api_keys').where({ id }).update({ last_used: '2020-01-01' });
    const service: RunningService = await startService(addressOf('serve'), { PROJECTOR: 'false' });
    const client = makeGrpcClient(service.grpc);
    try {
      for (const user of users) {
        const headers = { 'coder-session-token': tokens[user] ?? '' };
        for (const query of queries) {
          const request = { query, includeTotalSize: true, pageSize: 2 };
          const answer = await ok(client.unary(TasksService.method.listTasks, request, { headers }), user);
          if (query === 'owner:*' && user === 'admin') expect(answer?.message.totalSize).toBeGreaterThan(10);
          const [task] = answer?.message.tasks ?? [];
          if (task === undefined || query.includes('deleted')) continue; // a deleted task is not found by its name
          const { id: value, name } = task;
          await client.unary(TasksService.method.getTask, { identifier: { case: 'id', value } }, { headers });
          const byName = { case: 'name', value: { owner: task.ownerName, name } } as const;
          await client.unary(TasksService.method.getTask, { identifier: byName }, { headers });
        }
      }
      const headers = { 'coder-session-token': tokens['developer'] ?? '' };
      const watching = client.serverStream(TasksService.method.watchTasks, { includeInitial: true }, { headers });
      for await (const { event } of watching) if (event.case === 'synced') break;
      const coder = await fetch(`http://${service.web}/api/experimental/tasks/admin`, {
        headers: { 'coder-session-token': tokens['admin'] ?? '' },
      });
      expect(coder.status).toBe(200);
      const ready = await fetch(`http://${service.ops}/readyz`);
      expect([ready.status, await ready.text()]).toEqual([200, expect.stringContaining('"ready"')]);
      const used = async () => ((await root('api_keys').where({ id }).first()) as { last_used: string }).last_used;
      await expect.poll(used).not.toMatch(/^2020/);
      expect(service.output()).not.toMatch(/"level":"(warn|error)"/);
    } finally {
      client.close();
      await service.stop();
    }
  });

  test('serve and replica write no table, but for when a session was used', async () => {
    const [tables] = (await root.raw(
      'select table_name as name from information_schema.tables where table_schema = database()',
    )) as [{ name: string }[]];
    expect(tables.length).toBeGreaterThan(20);
    const denied = expect.objectContaining({ code: expect.stringMatching(/^ER_(TABLE|COLUMN)ACCESS_DENIED_ERROR$/) });
    for (const kind of ['serve', 'replica'] as const) {
      for (const { name } of tables) {
        const [[column]] = (await root.raw(
          'select column_name as name from information_schema.columns where table_schema = database() and table_name = ? and extra = ? order by ordinal_position',
          [name, ''],
        )) as [[{ name: string }]];
        await expect(as(kind).raw('insert into ?? (??) values (null)', [name, column.name]), `${kind} ${name}`).rejects.toEqual(
          denied,
        );
        await expect(as(kind).raw('delete from ??', [name]), `${kind} ${name}`).rejects.toEqual(denied);
        await expect(as(kind).raw('update ?? set ?? = null', [name, column.name]), `${kind} ${name}`).rejects.toEqual(denied);
        await expect(as(kind).raw('drop table ??', [name]), `${kind} ${name}`).rejects.toEqual(denied);
      }
      await expect(as(kind).raw(`create trigger x after insert on users for each row set @x = 1`)).rejects.toThrow(/denied/);
      await expect(as(kind).raw('create table x (x int)')).rejects.toThrow(/denied/);
    }
    for (const sql of [
      'update users set rbac_roles = \'["owner"]\'',
      "update users set username = 'x'",
      'update api_keys set user_id = null',
    ]) {
      await expect(as('serve').raw(sql)).rejects.toEqual(denied);
    }
    await expect(as('replica').raw('select hashed_secret from api_keys')).rejects.toEqual(denied);
    await expect(as('replica').raw('select value from service_settings')).rejects.toEqual(denied);
    await expect(as('project').raw('select hashed_secret from api_keys')).rejects.toEqual(denied);
  });

  test('replica reads what lists and tasks are made of', async () => {
    const database = as('replica');
    const service = createTasksService(database, { cacheSeconds: 0, pageTokenKey: randomBytes(32) });
    const authenticate = createAuthenticate(createApiKeyRepository(root), 0);
    for (const user of users) {
      const caller = await authenticate((name) => (name === 'coder-session-token' ? tokens[user] : undefined));
      const call = testCall(caller);
      for (const query of queries) {
        const request = create(ListTasksRequestSchema, { query, includeTotalSize: true, pageSize: 2 });
        const answer = await ok(service.listTasks(request, call), user);
        const [task] = answer?.tasks ?? [];
        if (task === undefined || query.includes('deleted')) continue;
        const identifier = { case: 'name', value: { owner: task.ownerName, name: task.name } } as const;
        await service.getTask(create(GetTaskRequestSchema, { identifier }), call);
      }
    }
  });

  test('serve and replica find out how old a replica is', async () => {
    const log = pino({ level: 'silent' });
    const pool = { size: 1, statementTimeoutMs: 10_000 };
    const replica = openReplica(addressOf('replica'), { primary: as('serve'), pool, maxStalenessSeconds: 10, log });
    try {
      await replica.start();
      await expect.poll(() => replica.whyNot(), { timeout: 10_000 }).toBeUndefined();
      expect(replica.stalenessMs()).toBeLessThan(10_000);
    } finally {
      await replica.close();
    }
  });

  test('an account that sees no triggers does not call them missing', async () => {
    expect(await missingTriggers(as('serve'))).toEqual([]);
    expect(triggerNames.length).toBeGreaterThan(10);
  });
});
