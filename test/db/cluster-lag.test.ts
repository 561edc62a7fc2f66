import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import type { Caller } from '../../src/call/caller.ts';
import { isClusterNode } from '../../src/db/cluster.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { WatchTasksRequestSchema, type WatchTasksResponse } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import { createResolveQuery } from '../../src/tasks/resolve-query.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createFeedRepository } from '../../src/watch/feed-repository.ts';
import { TaskFeed } from '../../src/watch/task-feed.ts';
import { addWatchMetrics } from '../../src/watch/watch-metrics.ts';
import { createWatchTasks, type WatchTasks } from '../../src/watch/watch-tasks.ts';
import { createTestDatabase, describeOnOneEngine, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertOwnerWithTasks, type OwnerWithTasks } from '../support/owner-with-tasks.ts';
import { testCall } from '../support/test-call.ts';

// A cluster's node that is behind is stood for by a database that the test itself keeps behind.

const longMs = 30_000;
const shortMs = 200;

describeOnServerKinds('a server that is no node of a cluster', (engine) => {
  test('is told from one that is', async () => {
    const { database, drop } = await createTestDatabase(engine, { migrate: false });
    expect(await isClusterNode(database)).toBe(false);
    await drop();
  });
});

describeOnOneEngine('a node that is behind another', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  /** The connection of whoever writes on the other node. */
  let other: Database;
  let owner: OwnerWithTasks;
  let caller: Caller;
  const feeds: TaskFeed[] = [];

  /** WatchTasks of a process whose node may be behind for so long. */
  function watchTasks(mayLagMs: number): WatchTasks {
    const feedRepository = createFeedRepository(database, 60);
    const feed = new TaskFeed(feedRepository, createLog('silent'), { mayLagMs });
    feeds.push(feed);
    return createWatchTasks({
      tasks: createTaskRepository(database, 60),
      feed,
      feedRepository,
      resolveQuery: createResolveQuery(createNameLookup(database, 0)),
      tokenKeys: [Buffer.alloc(32, 1)],
      watchesPerCaller: 100,
      metrics: addWatchMetrics(new Registry(), feed),
    });
  }

  /** What a watch says until it is complete. */
  async function untilSynced(watch: WatchTasks, resumeToken: string): Promise<WatchTasksResponse[]> {
    const said: WatchTasksResponse[] = [];
    for await (const response of watch(create(WatchTasksRequestSchema, { resumeToken }), testCall(caller))) {
      said.push(response);
      if (response.event.case === 'synced') break;
    }
    return said;
  }

  const seqIs = (seq: number) => other('projector_state').where('projector_state.id', 1).update({ seq });
  const tokenAt = async (seq: number): Promise<string> => {
    await seqIs(seq);
    return (await untilSynced(watchTasks(0), '')).at(-1)?.resumeToken ?? '';
  };
  const codeOf = (work: Promise<unknown>): Promise<Code | 'OK'> =>
    work.then(
      () => 'OK',
      (error: unknown) => ConnectError.from(error).code,
    );

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    other = openDatabase(testDatabase.address, { size: 1, statementTimeoutMs: 10_000 });
    owner = await insertOwnerWithTasks(database, { tasks: 1 });
    const found = createAuthenticate(createApiKeyRepository(database), 0);
    caller = await found((name) => (name === 'coder-session-token' ? owner.token : undefined));
  });
  afterAll(async () => {
    await Promise.all(feeds.map((feed) => feed.stop()));
    await closeDatabase(other);
    await testDatabase.drop();
  });

  test('a watch that goes on from the other node waits for this one', async () => {
    const token = await tokenAt(7);
    await seqIs(5);
    let ended = false;
    const resumed = untilSynced(watchTasks(longMs), token).finally(() => {
      ended = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(ended).toBe(false);
    await seqIs(7);
    expect((await resumed).map(({ event }) => event.case)).toEqual(['synced']);
  });

  test('and begins anew when the feed does not come, or is another one, or there is no other node', async () => {
    const token = await tokenAt(7);
    await seqIs(5);
    expect(await codeOf(untilSynced(watchTasks(shortMs), token))).toBe(Code.OutOfRange);
    expect(await codeOf(untilSynced(watchTasks(0), token))).toBe(Code.OutOfRange);
    await other('projector_state').update({ generation: 'another' });
    expect(await codeOf(untilSynced(watchTasks(longMs), token))).toBe(Code.OutOfRange);
  });

  test('a token that was made there a moment ago is looked up once more', async () => {
    const keys = createApiKeyRepository(database);
    const looked: number[] = [];
    let onFirst = async (): Promise<void> => {};
    const counting = {
      ...keys,
      async findSecrets(ids: readonly string[]) {
        const found = await keys.findSecrets(ids);
        looked.push(ids.length);
        await onFirst();
        return found;
      },
    };
    const check = (lookAgainMs: number) => {
      const ask = createAuthenticate(counting, 0, { lookupLimits: { lookAgainMs } });
      return async (token: string, address: string) =>
        ask((name) => (name === 'coder-session-token' ? token : undefined), address);
    };
    const fresh = async (): Promise<string> => {
      const token = (await createApiKeyRepository(other).create('someone', { lifetimeSeconds: 60, name: 'new' })) ?? '';
      const [row] = (await other('api_keys').where('api_keys.id', token.slice(0, 10))) as Record<string, never>[];
      await other('api_keys').where('api_keys.id', token.slice(0, 10)).delete();
      onFirst = async () => {
        onFirst = async () => {};
        await other('api_keys').insert(row ?? {});
      };
      return token;
    };
    await expect(check(10)(await fresh(), '10.0.0.1')).resolves.toMatchObject({ username: 'someone' });
    expect(await codeOf(check(0)(await fresh(), '10.0.0.1'))).toBe(Code.Unauthenticated);

    // Made-up tokens: of each network ten are looked up again, and of a hundred networks a hundred.
    looked.length = 0;
    const asking = check(2000);
    const ofOne = Array.from({ length: 300 }, (_, i) => asking(`${String(i).padStart(10, 'c')}-${'b'.repeat(22)}`, '10.0.0.1'));
    const ofMany = Array.from({ length: 300 }, (_, i) =>
      asking(`${String(i).padStart(10, 'd')}-${'b'.repeat(22)}`, `10.1.${Math.floor(i / 250)}.${i % 250}`),
    );
    expect(new Set(await Promise.all([...ofOne, ...ofMany].map(codeOf)))).toEqual(new Set([Code.Unauthenticated]));
    expect(looked.reduce((sum, one) => sum + one)).toBe(600 + 100);
  });
});
