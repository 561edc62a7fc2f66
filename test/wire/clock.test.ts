import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { cacheDir } from '../support/engines.ts';
import { Load } from '../support/load.ts';
import type { OwnerWithTasks } from '../support/owner-with-tasks.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { until } from '../support/test-server.ts';
import { Follower } from '../support/watching.ts';

/** What lies to a process about the time of day, and leaves its timers alone; or why it cannot be had. */
async function findFaketime(): Promise<{ readonly library: string } | { readonly notRun: string }> {
  const root = join(cacheDir, `faketime-${process.arch}`);
  try {
    if (!existsSync(root)) await fetchPackages({ packages: ['libfaketime'], into: root });
    const libraries = join(root, 'usr/lib');
    const library = readdirSync(libraries)
      .map((folder) => join(libraries, folder, 'faketime/libfaketimeMT.so.1'))
      .find(existsSync);
    return library === undefined ? { notRun: 'libfaketime: the package has no library' } : { library };
  } catch (error) {
    return { notRun: `libfaketime: ${error instanceof Error ? error.message : String(error)}` };
  }
}

const faketime = await findFaketime();
if ('notRun' in faketime) console.log(`NOT RUN: a clock that jumps: ${faketime.notRun}`);

// The clock is the service's own: what the engine's clock says is the same on all of them.
describeOnEngines(
  'the clock of the service',
  (engine) => {
    let folder: string;
    let testDatabase: TestDatabase;
    let owner: OwnerWithTasks;
    let service: RunningService;
    let client: GrpcClient;
    let follower: Follower;
    const keys = new Map<string, CryptoKey>();

    /** Has the service take the keys of these names, and no others. */
    async function publish(...names: readonly string[]): Promise<void> {
      const published = names.map(async (name) => {
        const pair = await generateKeyPair('EdDSA', { extractable: true });
        keys.set(name, pair.privateKey);
        return { ...(await exportJWK(pair.publicKey)), kid: name, alg: 'EdDSA' };
      });
      writeFileSync(join(folder, 'keys.json'), JSON.stringify({ keys: await Promise.all(published) }));
    }

    /** A token that is good until so many seconds from now, by the clock of the test. */
    async function sign(key: string, seconds: number): Promise<string> {
      return new SignJWT({ iss: 'https://issuer.example', aud: 'tasks', sub: 'someone' })
        .setProtectedHeader({ alg: 'EdDSA', kid: key })
        .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
        .sign(keys.get(key) as CryptoKey);
    }

    function list(headers: Record<string, string>, pageToken = '') {
      return client.unary(TasksService.method.listTasks, { pageSize: 5, pageToken }, { headers });
    }
    async function codeFor(jwt: string): Promise<string> {
      const error = await list({ authorization: `Bearer ${jwt}` }).then(() => undefined, ConnectError.from);
      return error === undefined ? 'OK' : (Code[error.code] ?? '');
    }

    /** Sets the clock so many seconds apart from the true time, and waits until the service has seen it. */
    async function setClock(seconds: number): Promise<void> {
      writeFileSync(join(folder, 'clock'), `${seconds >= 0 ? '+' : ''}${seconds}\n`);
      await until('line in the log with the new time', async () => {
        await list({}).catch(() => {}); // a line for the log
        const [, time = ''] = /.*"time":"([^"]+)"/s.exec(service.output()) ?? [];
        return Math.abs(Date.parse(time) - Date.now() - 1000 * seconds) < 60_000;
      });
    }

    beforeAll(async () => {
      if ('notRun' in faketime) return;
      folder = mkdtempSync(join(tmpdir(), 'tasks-clock-'));
      writeFileSync(join(folder, 'clock'), '+0\n');
      await publish('a');
      testDatabase = await createTestDatabase(engine);
      const { database } = testDatabase;
      const organizationId = await insertOrganization(database, 'acme');
      const ownerId = await insertUser(database, { username: 'someone', memberships: [[organizationId]] });
      const token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 1800, name: 'test' })) ?? '';
      const tasks: { id: string; name: string }[] = [];
      for (let i = 0; i < 12; i++) {
        const name = `task-${String(i).padStart(4, '0')}`;
        const { workspace } = await insertRunningTask(database, { owner_id: ownerId, organization_id: organizationId, name });
        tasks.push({ id: formatUuid(workspace), name });
      }
      await projectAll(database);
      owner = { token, ownerId, organizationId, tasks };
      service = await startService(testDatabase.address, {
        LD_PRELOAD: 'library' in faketime ? faketime.library : '',
        FAKETIME_TIMESTAMP_FILE: join(folder, 'clock'),
        FAKETIME_CACHE_DURATION: '1', // how long it goes by what it has read
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        DONT_FAKE_MONOTONIC: '1', // its name in older versions
        NO_FAKE_STAT: '1',
        AUTH_CACHE_SECONDS: '1',
        JWT_ISSUER: 'https://issuer.example',
        JWT_AUDIENCE: 'tasks',
        JWT_JWKS: join(folder, 'keys.json'),
      });
      client = makeGrpcClient(service.grpc);
      follower = new Follower({ who: 'owner', query: '', token }, () => [service.grpc]);
    });
    afterAll(async () => {
      if ('notRun' in faketime) return;
      client.close();
      follower.stop();
      expect(await service.stop()).toBe(0);
      await testDatabase.drop();
      rmSync(folder, { recursive: true });
    });

    /** Changes a task, and waits until a call and a watch see it. */
    async function expectProjected(): Promise<void> {
      const { id = '', name = '' } = owner.tasks.at(-1) ?? {};
      const renamed = `${name}-${Math.floor(Math.random() * 1e9)}`;
      await testDatabase.database('workspaces').where('name', name).update({ name: renamed });
      await until('the change', () => follower.tasks.get(id)?.name === renamed);
      await testDatabase.database('workspaces').where('name', renamed).update({ name });
      await until('the change back', () => follower.tasks.get(id)?.name === name);
    }

    const runs = 'library' in faketime;
    test.runIf(runs).each([
      ['an hour on', 3600],
      ['an hour back', -3600],
    ])('jumps %s under load, and nothing goes wrong', async (_where, seconds) => {
      await setClock(0);
      await expectProjected();
      const signedIn = { 'coder-session-token': owner.token };
      const jwt = await sign('a', 600);
      expect(await codeFor(jwt)).toBe('OK');
      const first = await list(signedIn);
      const load = new Load([client], owner);
      load.start(40);
      await load.recovered();

      const began = performance.now();
      await setClock(seconds);
      await expectProjected();
      // A session token lives by the database's clock, and a JSON Web Token, which no database knows, by ours.
      expect((await list(signedIn)).message.tasks).toHaveLength(5);
      await until('the token to be judged anew', async () => (await codeFor(jwt)) === (seconds > 0 ? 'Unauthenticated' : 'OK'));
      expect(await codeFor(await sign('a', seconds + 600))).toBe('OK');
      const second = await list(signedIn, first.message.nextPageToken);
      expect(second.message.tasks.map(({ name }) => name)).toEqual(owner.tasks.slice(5, 10).map(({ name }) => name));
      await sleep(3000); // through rounds of all that is done every second or two
      await setClock(0); // which is a jump the other way
      await expectProjected();
      expect(await codeFor(jwt)).toBe('OK');
      await load.stop();

      expect(load.wrong).toEqual([]);
      expect(load.outcomes(began)).toEqual({ OK: expect.any(Number) });
      expect(load.hung()).toEqual([]);
      expect([follower.restarted, follower.resumed]).toEqual([0, 0]);
      expect(service.output()).not.toMatch(/"level":"(?:error|fatal)"/);
    });

    test.runIf(runs)('is set back, and new keys of the issuer are taken all the same', async () => {
      await setClock(0);
      expect(await codeFor(await sign('a', 600))).toBe('OK');
      await setClock(-3600);
      await publish('b');
      await until('the new key', async () => (await codeFor(await sign('b', 600))) === 'OK');
    });
  },
  ['mariadb'],
);
