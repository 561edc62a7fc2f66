import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { statementNames } from '../../src/db/statements.ts';
import { QueryKey, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { enqueueWorkspaces } from '../../src/schema/outbox.ts';
import { type Authority, makeAuthority } from '../support/certificates.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { databaseUrl, type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

/** A line of `/metrics`: a value of a metric. */
interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

describeOnOneEngine('the metrics of the service', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let token: string;
  let folder: string;
  let authority: Authority;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    const home = await insertOrganization(database, 'home');
    const ownerId = await insertUser(database, { username: 'someone', memberships: [[home]] });
    for (let i = 0; i < 3; i++) await insertRunningTask(database, { owner_id: ownerId, organization_id: home });
    token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    folder = mkdtempSync(join(tmpdir(), 'metrics-'));
    authority = makeAuthority(folder, 'ca');
    const { certFile, keyFile } = authority.issue('service');
    // A database is a replica of itself.
    const replica = databaseUrl(testDatabase.address);
    service = await startService(testDatabase.address, {
      DATABASE_REPLICA_URL: replica,
      CODER_URL: 'http://127.0.0.1:1', // where nothing answers
      CODER_DATABASE_URL: 'postgres://nobody@127.0.0.1:1/coder', // where nothing answers
      TLS_CERT_FILE: certFile,
      TLS_KEY_FILE: keyFile,
    });
    await vi.waitFor(async () => expect(await database('workspace_tasks').select('id')).toHaveLength(3), { timeout: 10_000 });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    await testDatabase.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  const scrape = async () => (await fetch(`http://${service.ops}/metrics`)).text();
  async function samples(): Promise<Sample[]> {
    return [...(await scrape()).matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name = '', labels = '', value]) => ({
      name,
      labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text])),
      value: value === 'Nan' ? Number.NaN : Number(value),
    }));
  }
  const valueOf = async (name: string, labels: Record<string, string> = {}) =>
    (await samples()).find(
      (sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
    )?.value;
  const headers = () => ({ 'coder-session-token': token });
  const client = () =>
    createClient(TasksService, createGrpcTransport({ baseUrl: `https://${service.grpc}`, nodeOptions: { ca: authority.cert } }));

  test('are those of docs/metrics.md, with their types and labels, and no others', async () => {
    // What the library measures of the process has labels of Node's types, which come and go.
    const described = (name: string, type: string, labels: string): string =>
      /^(process|nodejs)_/.test(name) ? `${name} ${type}` : `${name} ${type} ${labels}`.trim();
    const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^\| `(\w+)` \| (\w+) \| (.*?) \| /gm)]
      .map(([, name = '', type = '', labels = '']) => described(name, type, labels.replaceAll(/[`,]/g, '')))
      .filter((line) => process.platform === 'linux' || !line.startsWith('process_'))
      .toSorted();
    const found = await samples();
    const real = [...(await scrape()).matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => {
      const labels = new Set(
        found
          .filter((sample) => sample.name.replace(type === 'histogram' ? /_(bucket|sum|count)$/ : /$^/, '') === name)
          .flatMap((sample) => Object.keys(sample.labels))
          .filter((label) => !((type === 'histogram' && label === 'le') || (type === 'summary' && label === 'quantile'))),
      );
      return described(name, type, [...labels].join(' '));
    });
    expect(real.filter((line) => process.platform === 'linux' || !line.startsWith('process_')).toSorted()).toEqual(documented);
  });

  test('count statements by name, waits for connections, and nothing that a client says', async () => {
    const { tasks } = await client().listTasks({ query: 'owner:someone', includeTotalSize: true }, { headers: headers() });
    expect(tasks).toHaveLength(3);
    await client().listTasks({ query: 'organization:home template:invented' }, { headers: headers() });
    await client().countTasks({ query: 'owner:someone' }, { headers: headers() });
    await client().countTasksOverTime({ query: 'owner:someone' }, { headers: headers() });
    await client().listQueryValues({ key: QueryKey.OWNER }, { headers: headers() });
    await client().getTask({ identifier: { case: 'id', value: tasks[0]?.id ?? '' } }, { headers: headers() });
    const found = await samples();
    const count = (statement: string) =>
      found.find(({ name, labels }) => name === 'tasks_db_statement_seconds_count' && labels['statement'] === statement)?.value;
    expect(Object.fromEntries(statementNames.map((name) => [name, count(name)]))).toMatchObject({
      list_tasks: 1,
      count_tasks: 1,
      count_task_kinds: 1,
      count_tasks_over_time: 1,
      list_query_values: 1,
      get_task_by_id: 1,
      find_session: 1,
      find_organizations: 1,
      find_templates: 1,
      share_organization: 0,
    });
    const statements = new Set(found.flatMap(({ labels }) => labels['statement'] ?? []));
    expect([...statements].toSorted()).toEqual([...statementNames].toSorted());
    expect(await valueOf('tasks_db_pool_size', { pool: 'primary' })).toBe(10);
    expect(await valueOf('tasks_db_pool_in_use', { pool: 'primary' })).toBe(0);
    expect(await valueOf('tasks_db_pool_waiting', { pool: 'primary' })).toBe(0);
    const waits = async (pool: string) => (await valueOf('tasks_db_pool_acquire_seconds_count', { pool })) ?? Number.NaN;
    expect((await waits('primary')) + (await waits('replica'))).toBeGreaterThanOrEqual(6);
    await expect.poll(() => valueOf('tasks_replica_in_use'), { timeout: 10_000 }).toBe(1);
    expect(await valueOf('tasks_replica_staleness_seconds')).toBeLessThan(10);
    expect(await scrape()).not.toMatch(/invented|someone/);
  });

  test('know what waits in the outbox', async () => {
    const { database } = testDatabase;
    await expect.poll(() => valueOf('tasks_projector_active')).toBe(1);
    await expect.poll(() => valueOf('tasks_projector_outbox_rows'), { timeout: 5000 }).toBe(0);
    const before = (await valueOf('tasks_projector_batches_total')) ?? 0;
    // The state's row is locked: nothing can be projected.
    const held = await database.transaction();
    await held.raw('select `p`.`id` from `projector_state` as `p` for update');
    await enqueueWorkspaces(database, [newId(), newId()]);
    await expect.poll(() => valueOf('tasks_projector_lag_seconds'), { timeout: 5000 }).toBeGreaterThan(0);
    await held.rollback();
    await expect.poll(() => valueOf('tasks_projector_batches_total'), { timeout: 10_000 }).toBeGreaterThan(before);
    expect(await valueOf('tasks_projector_batch_seconds_total')).toBeGreaterThan(0);
    expect(await valueOf('tasks_projector_polls_total')).toBeGreaterThan(0);
    expect(await valueOf('tasks_projector_poll_seconds_total')).toBeGreaterThan(0);
  });

  test('leave to the log how much was read for a call', async () => {
    const id = 'counts-rows';
    await client().listTasks({ pageSize: 2 }, { headers: { ...headers(), 'x-request-id': id } });
    const lines = () => service.output().split('\n');
    const line = await vi.waitUntil(() => lines().find((text) => text.includes(id) && text.endsWith('}')), { timeout: 10_000 });
    expect(JSON.parse(line)).toMatchObject({ rows: 2, code: 'OK', requestId: id, durationMs: expect.any(Number) });
  });
});
