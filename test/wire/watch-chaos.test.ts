import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { Database } from '../../src/db/connection.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { startRandomWriters } from '../support/random-writer.ts';
import { type RunningService, startService } from '../support/service.ts';
import { now } from '../support/source-writer.ts';
import { staleFollowers } from '../support/stale-followers.ts';
import { newId } from '../support/tasks.ts';
import { Follower } from '../support/watching.ts';

/** How long is written and killed, in milliseconds. */
const durationMs = Number(process.env['WATCH_CHAOS_MS'] ?? 12_000);

const queries = [
  'owner:*',
  'owner:* status:running',
  'owner:* state:idle',
  'owner:* waiting:true',
  'owner:* name:a',
  'owner:* phase:active',
  '',
];

describeOnServerKinds('watching under random writes', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  const services: RunningService[] = [];
  const organizations = [newId(), newId(), newId()];
  const people: { username: string; id: Buffer; token: string }[] = [];

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    const keys = createApiKeyRepository(database);
    const [first, second] = organizations as [Buffer, Buffer];
    for (const [username, roles, memberships] of [
      ['admin', ['owner'], []],
      ['lead', [], [[first, 'organization-admin'], [second]]],
      ['one', [], [[first], [second]]],
      ['two', [], [[second]]],
    ] as const) {
      const id = await insertUser(database, { username, roles, memberships });
      people.push({ username, id, token: (await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '' });
    }
    services.push(...(await Promise.all([1, 2].map(() => startService(testDatabase.address, { AUTH_CACHE_SECONDS: '1' })))));
  });
  afterAll(async () => {
    await Promise.all(services.map((service) => service.stop()));
    await testDatabase.drop();
  });

  test('what watchers have in the end is what the lists have', { timeout: durationMs + 60_000 }, async () => {
    const followers = people.flatMap(({ username, token }) =>
      queries.map((query) => new Follower({ who: username, query, token }, () => services.map(({ grpc }) => grpc))),
    );
    const writers = startRandomWriters(database, {
      writers: 4,
      seed: 20_261_125,
      pauseMs: 2,
      owners: people.map(({ id }) => id),
      organizations,
    });
    const member = people[3]?.id ?? newId();
    const until = performance.now() + durationMs;
    try {
      for (let round = 0; performance.now() < until; round++) {
        await sleep(300);
        for (let i = round % 3; i < followers.length; i += 3) followers[i]?.breakOff();
        // Rights that come and go.
        if (round % 6 === 2) {
          const row = { organization_id: organizations[0], user_id: member, roles: '[]', created_at: now(), updated_at: now() };
          await database('organization_members').insert(row);
        } else if (round % 6 === 5) {
          await database('organization_members').where({ organization_id: organizations[0], user_id: member }).delete();
        }
        if (round % 12 === 7) {
          const victim = services.shift() as RunningService;
          services.push(await startService(testDatabase.address, { AUTH_CACHE_SECONDS: '1' }));
          await victim.stop(round % 24 === 7 ? 'SIGKILL' : 'SIGTERM');
        }
      }
    } finally {
      await writers.stop();
    }
    const client = makeGrpcClient(services[0]?.grpc ?? '');
    try {
      // Until everybody is up to date; what is wrong then is wrong for ever.
      let wrong = ['nothing was looked at'];
      for (const deadline = performance.now() + 30_000; wrong.length > 0 && performance.now() < deadline; await sleep(200)) {
        wrong = await staleFollowers(client, followers);
      }
      expect(wrong).toEqual([]);
    } finally {
      client.close();
      for (const follower of followers) follower.stop();
    }
    expect(writers.done.committed).toBeGreaterThan(200);
    expect(followers.reduce((sum, { resumed }) => sum + resumed, 0)).toBeGreaterThan(followers.length);
  });
});
