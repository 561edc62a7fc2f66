import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { describeOnEngines } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { type ReplicatedPair, Signpost, startPair } from '../support/replication.ts';
import { databaseUrl, type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';

/** What is read may be so old, and half of that before a replica is used again. */
const maxStalenessSeconds = 2;

describeOnEngines('a primary with a replica', (engine) => {
  const isPrivate = process.env[`TEST_${engine.toUpperCase()}_URL`] === undefined && inject('engines')[engine] !== undefined;

  describe.runIf(isPrivate)('and the service', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tasks-pair-'));
    let pair: ReplicatedPair;
    let toPrimary: Signpost;
    let toReplica: Signpost;
    let database: Database;
    let service: RunningService;
    let ownerId: Buffer;
    let organizationId: Buffer;
    let token: string;

    beforeAll(async () => {
      pair = await startPair(engine, folder);
      [toPrimary, toReplica] = [new Signpost(pair.primary), new Signpost(pair.replica)];
      await pair.primary.operator.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
      database = openDatabase({ ...pair.primary.address, database: 'tasks' }, { size: 4, statementTimeoutMs: 30_000 });
      await migrateUp(database, { triggers: true });
      organizationId = await insertOrganization(database, 'home');
      ownerId = await insertUser(database, { username: 'someone', memberships: [[organizationId]] });
      token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
      const address = await toPrimary.open();
      service = await startService(address, {
        DATABASE_REPLICA_URL: databaseUrl(await toReplica.open()),
        REPLICA_MAX_STALENESS_SECONDS: String(maxStalenessSeconds),
        STATEMENT_TIMEOUT_MS: '10000', // more than any of this may take
      });
    });
    afterAll(async () => {
      expect(await service.stop()).toBe(0);
      for (const signpost of [toPrimary, toReplica]) signpost.close();
      await closeDatabase(database);
      await pair.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    const metric = async (name: string): Promise<number> => {
      const text = await (await fetch(`http://${service.ops}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
    };
    const state = async () =>
      (await (await fetch(`http://${service.ops}/readyz`)).json()) as { status: string; parts: Record<string, string> };
    const untilUsed = (used: 0 | 1) =>
      vi.waitFor(async () => expect(await metric('tasks_replica_in_use')).toBe(used), { timeout: 20_000, interval: 50 });
    const client = () => createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
    const names = async (request: { readonly includeResumeToken?: boolean } = {}) => {
      const { tasks } = await client().listTasks(request, { headers: { 'coder-session-token': token }, timeoutMs: 20_000 });
      return tasks.map(({ name }) => name);
    };
    const addTask = async (name: string): Promise<string> =>
      formatUuid((await insertRunningTask(database, { name, owner_id: ownerId, organization_id: organizationId })).workspace);
    const untilListed = (name: string) =>
      vi.waitFor(async () => expect(await names()).toContain(name), { timeout: 20_000, interval: 20 });

    test('lists are read from the replica, and what is written shows there', async () => {
      await untilUsed(1);
      await addTask('first');
      await untilListed('first');
      // Said by the replica itself: what the primary does not have.
      const there = openDatabase({ ...pair.replica.address, database: 'tasks' }, { size: 1, statementTimeoutMs: 10_000 });
      await there.raw('set session sql_log_bin = 0'); // no transaction of its own, which would end the replication
      await there.raw("update `workspace_tasks` set `name` = 'of the replica'");
      expect(await names()).toEqual(['of the replica']);
      // A list that is watched afterwards must not be older than its token.
      expect(await names({ includeResumeToken: true })).toEqual(['first']);
      await there.raw("update `workspace_tasks` set `name` = 'first'");
      await closeDatabase(there);
      expect(await state()).toMatchObject({ status: 'ready', parts: { replica: 'ok' } });
      const staleness = await metric('tasks_replica_staleness_seconds');
      expect(staleness).toBeGreaterThanOrEqual(0);
      expect(staleness).toBeLessThan(maxStalenessSeconds);
    });

    test('what it shows is never older than the limit: then the primary is read, until it has caught up', async () => {
      await untilUsed(1);
      await pair.pause();
      const id = await addTask('second');
      const written = performance.now();
      // A token that the replica does not have is good, too: tokens are looked up on the primary.
      const fresh = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'fresh' })) ?? '';
      // A task that the replica does not have is looked for on the primary.
      await vi.waitFor(
        async () => {
          const { task } = await client().getTask(
            { identifier: { case: 'id', value: id } },
            { headers: { 'coder-session-token': fresh } },
          );
          expect(task?.name).toBe('second');
        },
        { timeout: 10_000, interval: 20 },
      );
      expect(await names()).toEqual(['first']); // as old as it may be
      await untilListed('second');
      // A beat and a list are between; on a busy machine they take their time.
      expect((performance.now() - written) / 1000).toBeLessThan(maxStalenessSeconds + 3);
      const { status, parts } = await state();
      expect([status, parts['replica']]).toEqual(['ready', expect.stringMatching(/^not used: it (is|may be) \d+\.\d s behind$/)]);
      expect(await metric('tasks_replica_staleness_seconds')).toBeGreaterThan(maxStalenessSeconds);
      await pair.resume();
      await untilUsed(1);
      expect((await names()).toSorted()).toEqual(['first', 'second']);
    });

    test('while it is cut off, or silent, every call is answered by the primary', async () => {
      await untilUsed(1);
      const lists: { readonly names: string[]; readonly seconds: number }[] = [];
      let asking = true;
      const callers = Array.from({ length: 4 }, async () => {
        while (asking) {
          const began = performance.now();
          lists.push({ names: await names(), seconds: (performance.now() - began) / 1000 });
        }
      });
      toReplica.cut();
      await untilUsed(0);
      expect((await state()).status).toBe('ready');
      toReplica.pointTo(pair.replica);
      await untilUsed(1);
      toReplica.fallSilent();
      await untilUsed(0);
      await sleep(200);
      asking = false;
      await Promise.all(callers); // none has failed
      expect(lists.length).toBeGreaterThan(10);
      for (const list of lists) {
        expect(list.names.toSorted()).toEqual(['first', 'second']);
        expect(list.seconds).toBeLessThan(9); // less than the statement limit
      }
      expect(await metric('tasks_replica_fallbacks_total')).toBeGreaterThan(0);
      await untilUsed(1); // over new connections
    });

    test('another database is not read from, however fresh it is', async () => {
      await pair.primary.operator.raw('create database other character set utf8mb4 collate utf8mb4_bin');
      const other = openDatabase({ ...pair.primary.address, database: 'other' }, { size: 1, statementTimeoutMs: 30_000 });
      await migrateUp(other, { triggers: true });
      await closeDatabase(other);
      const wrong = await startService(
        { ...pair.primary.address, database: 'tasks' },
        { DATABASE_REPLICA_URL: databaseUrl({ ...pair.primary.address, database: 'other' }), PROJECTOR: 'false' },
      );
      try {
        const { status, parts } = await (async () =>
          (await fetch(`http://${wrong.ops}/readyz`)).json() as ReturnType<typeof state>)();
        expect([status, parts['replica']]).toEqual([
          'ready',
          expect.stringMatching(/^not used: it is no replica of the database of DATABASE_URL/),
        ]);
        const { tasks } = await createClient(TasksService, createGrpcTransport({ baseUrl: `http://${wrong.grpc}` })).listTasks(
          {},
          { headers: { 'coder-session-token': token } },
        );
        expect(tasks).toHaveLength(2);
      } finally {
        expect(await wrong.stop()).toBe(0);
      }
    });

    test('when the primary dies and the replica is promoted, calls are answered and changes projected again', async () => {
      await untilUsed(1);
      toPrimary.cut();
      await pair.primary.stop();
      await pair.promote();
      toPrimary.pointTo(pair.replica);
      const began = performance.now();
      await vi.waitFor(async () => expect((await names()).toSorted()).toEqual(['first', 'second']), { timeout: 20_000 });
      await closeDatabase(database);
      database = openDatabase({ ...pair.replica.address, database: 'tasks' }, { size: 4, statementTimeoutMs: 30_000 });
      await addTask('third');
      await untilListed('third');
      expect((performance.now() - began) / 1000).toBeLessThan(15);
      await untilUsed(1);
      expect((await state()).status).toBe('ready');
    });
  });
});
