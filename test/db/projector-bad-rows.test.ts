import { setTimeout as sleep } from 'node:timers/promises';
import { fromBinary, toJson } from '@bufbuild/protobuf';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { retryFailedWorkspaces } from '../../src/commands/project.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { ListTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import { addDeadLetter } from '../../src/projection/dead-letters.ts';
import { createProjector, type Projector, type ProjectorOptions } from '../../src/projection/projector.ts';
import { projectAll, retryDeadLetters } from '../../src/projection/rebuild.ts';
import { readinessChecks } from '../../src/readiness-checks.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { changeKinds } from '../../src/schema/projected-tables.ts';
import { decodePosition, encodePosition } from '../../src/tasks/position.ts';
import type { Scope } from '../../src/tasks/scope.ts';
import { createTaskRepository, type TaskRepository } from '../../src/tasks/store/task-repository.ts';
import { encodeListTasksResponse } from '../../src/tasks/task-encoder.ts';
import { toListTasksResponse } from '../../src/tasks/task-mapper.ts';
import { createFeedRepository } from '../../src/watch/feed-repository.ts';
import { describeOnEngines } from '../support/database.ts';
import { Network } from '../support/network.ts';
import { emptyProjectedTables, outboxIsEmpty, readModelDifferences } from '../support/projected-tables.ts';
import { type ServedEngine, startServedEngine } from '../support/served-engine.ts';
import { insertRunningTask, insertSource } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

const mebibyte = 1024 * 1024;

/** Somebody who may read all tasks. */
const everything: Scope = {
  userId: newId(),
  everything: true,
  organizations: [],
  ownIn: [],
  sharedWith: [],
  memberOf: [],
};

interface FailedRow {
  readonly kind: number;
  readonly ref: Buffer;
  readonly error: string;
}

describeOnEngines(
  'rows that cannot be projected',
  (engine) => {
    let served: ServedEngine;
    let database: Database;
    let projectors: Projector[] = [];
    let networks: Network[] = [];
    let tasks: TaskRepository;

    beforeAll(async () => {
      served = await startServedEngine(engine, { tasks: 0, options: ['--max-allowed-packet=1M'] });
      database = served.database;
      tasks = createTaskRepository(database, 60);
    });
    afterAll(() => served.stop());
    afterEach(async () => {
      await Promise.all(projectors.map((projector) => projector.stop()));
      for (const network of networks) network.close();
      projectors = [];
      networks = [];
      await setPackets(mebibyte);
      await database.raw('drop trigger if exists poison');
      await emptyProjectedTables(database);
    });

    function start(options: Partial<ProjectorOptions> = {}): Projector {
      const projector = createProjector({
        address: served.address,
        log: createLog('silent'),
        sweepPassMs: Number.POSITIVE_INFINITY,
        ...options,
      });
      projectors.push(projector);
      projector.start();
      return projector;
    }

    /** A way to the database that breaks each connection on which a text comes. */
    async function breaksOn(text: string): Promise<DatabaseAddress> {
      const network = new Network(served.address);
      networks.push(network);
      network.breaksOn = text;
      return network.open();
    }

    async function until(what: string, isTrue: () => Promise<boolean> | boolean, milliseconds = 40_000): Promise<void> {
      const deadline = performance.now() + milliseconds;
      while (!(await isTrue())) {
        if (performance.now() > deadline) throw new Error(`it took too long until ${what}`);
        await sleep(10);
      }
    }

    const settled = () => outboxIsEmpty(database);
    const deadLetters = async (): Promise<FailedRow[]> => (await database('workspace_changes_failed')) as FailedRow[];
    const isProjected = async (id: Buffer): Promise<boolean> => (await database('workspace_tasks').where('id', id)).length === 1;
    const insertTasks = (count: number) => Promise.all(Array.from({ length: count }, () => insertRunningTask(database)));

    /** Sets the limit that new connections have. */
    async function setPackets(bytes: number): Promise<void> {
      await database.raw('set global max_allowed_packet = ?', [bytes]);
    }

    /** Works on connections for which the present limit holds. */
    async function onNewConnections<T>(work: (database: Database) => Promise<T>): Promise<T> {
      const fresh = openDatabase(served.address, { size: 1, statementTimeoutMs: 30_000 });
      const result = await work(fresh);
      await closeDatabase(fresh);
      return result;
    }

    /** Lets a writer whose packets may be large write, as a replication may. */
    async function withLargePackets(work: (database: Database) => Promise<unknown>): Promise<void> {
      await setPackets(64 * mebibyte);
      const large = openDatabase(
        { ...served.server.address, database: 'tasks' },
        { size: 1, statementTimeoutMs: 30_000, acquireTimeoutMs: 30_000 },
      );
      await work(large);
      await closeDatabase(large);
      await setPackets(mebibyte);
    }

    /** An ACL that gives so many users the right to read. */
    const aclOf = (users: number): string =>
      JSON.stringify(Object.fromEntries(Array.from({ length: users }, () => [formatUuid(newId()), { permissions: ['read'] }])));

    describe('with max_allowed_packet at 1 MiB', () => {
      test.each<[what: string, sql: string, length: number]>([
        ['600,000 quotes', "repeat('\"', 600000)", 600_000],
        ['1 MiB of quotes', "repeat('\"', 1048576)", mebibyte],
        ['characters of two code units between backslashes', "repeat('\\\\\u{1f995}\\n', 150000)", 600_000],
      ])('a prompt of %s is projected like any other', async (_what, sql, length) => {
        const large = await insertRunningTask(database);
        const others = await insertTasks(5);
        await database.raw(`update workspace_build_parameters set value = ${sql} where workspace_build_id = ?`, [large.build]);
        const projector = start();
        await settled();
        expect(await deadLetters()).toEqual([]);
        const [row] = (await database('workspace_tasks').where('id', large.workspace)) as { prompt: string }[];
        const [source] = (await database('workspace_build_parameters').where('workspace_build_id', large.build)) as {
          value: string;
        }[];
        expect(row?.prompt === source?.value).toBe(true);
        expect(row?.prompt).toHaveLength(length);
        for (const { workspace } of others) expect(await isProjected(workspace)).toBe(true);
        expect(await readModelDifferences(database)).toEqual([]);
        expect(projector.status().active).toBe(true);
        // The answer is larger than a packet, too.
        expect((await tasks.getById(everything, large.workspace))?.prompt).toHaveLength(length);
        const page = await tasks.list(everything, { filter: {}, order: 'created_at', limit: 10 });
        expect(page.rows).toHaveLength(6);

        await database('workspaces').where('id', large.workspace).update({ name: 'renamed' });
        await settled();
        expect(await readModelDifferences(database)).toEqual([]);
      });

      test('a longer one that came by a larger packet is cut to 1 MiB', async () => {
        const large = await insertRunningTask(database);
        await withLargePackets((writer) =>
          writer('workspace_build_parameters')
            .where('workspace_build_id', large.build)
            .update({ value: '"'.repeat(3 * mebibyte) }),
        );
        start();
        await settled();
        expect(await deadLetters()).toEqual([]);
        const [row] = (await database('workspace_tasks').where('id', large.workspace)) as { prompt: string }[];
        expect(Buffer.byteLength(row?.prompt ?? '')).toBe(mebibyte);
        expect(await readModelDifferences(database)).toEqual([]);
      });

      test('whom a workspace is shared with, and who is told that it no longer is, may be 40,000', async () => {
        const shared = await insertRunningTask(database);
        const [other] = await insertTasks(1);
        await withLargePackets((writer) =>
          writer('workspaces')
            .where('id', shared.workspace)
            .update({ user_acl: aclOf(40_000) }),
        );
        start();
        await settled();
        if (engine === 'mysql') {
          // It gives no text for a JSON that is longer than a packet.
          const error = expect.stringContaining('user_acl or group_acl is longer than max_allowed_packet');
          expect(await deadLetters()).toEqual([expect.objectContaining({ ref: shared.workspace, error })]);
          await setPackets(4 * mebibyte);
          expect(await onNewConnections(retryDeadLetters)).toEqual({ tried: 1, left: [] });
        }
        expect(await deadLetters()).toEqual([]);
        expect(await database('workspace_task_acl').count({ count: '*' })).toEqual([{ count: 40_000 }]);
        expect(await isProjected(other?.workspace ?? newId())).toBe(true);
        const { rows } = await onNewConnections((fresh) =>
          createFeedRepository(fresh, 60).tasks([shared.workspace], { parameterNames: [], maxBytes: mebibyte }),
        );
        expect(rows.map(({ readers, userAclIds }) => [readers.length, userAclIds.length])).toEqual([[40_000, 40_000]]);
        await withLargePackets((writer) => writer('workspaces').where('id', shared.workspace).update({ user_acl: '{}' }));
        await settled();
        expect(await deadLetters()).toEqual([]);
        expect(await database('workspace_task_acl')).toEqual([]);
        const lengths = await database('task_events').max({ bytes: database.raw('length(old_readers)') });
        expect(lengths).toEqual([{ bytes: 17 * 40_000 }]);
        expect(await readModelDifferences(database)).toEqual([]);
      }, 60_000);

      test('an ACL that memory has no room for becomes a dead letter, until it is shorter', async () => {
        const shared = await insertRunningTask(database);
        const others = await insertTasks(5);
        await withLargePackets((writer) =>
          writer('workspaces')
            .where('id', shared.workspace)
            .update({ user_acl: aclOf(70_000) }),
        );
        const lines: string[] = [];
        const projector = start({ log: pino({ level: 'warn' }, { write: (line) => void lines.push(line) }) });
        await settled();
        const why = expect.stringMatching(/user_acl or group_acl (has more than 4194304 characters|is longer than max_allowed)/);
        expect(await deadLetters()).toEqual([expect.objectContaining({ kind: 1, ref: shared.workspace, error: why })]);
        for (const { workspace } of others) expect(await isProjected(workspace)).toBe(true);
        expect(await readModelDifferences(database)).toContainEqual(
          expect.stringContaining(`${formatUuid(shared.workspace)} error: stored not compared`),
        );

        // Where an operator looks.
        expect(projector.status().deadLetters).toBe(1);
        const { projection } = readinessChecks(database, { MIGRATE_TRIGGERS: false, CODER_DATABASE_URL: undefined }, undefined);
        expect(await projection?.(new AbortController().signal)).toMatch(/^dead letters: 1 workspace that cannot be projected/);
        const logged = lines.filter((line) => line.includes('is a dead letter now'));
        expect(logged.map((line) => JSON.parse(line) as unknown)).toEqual([
          expect.objectContaining({ level: 50, ref: formatUuid(shared.workspace) }),
        ]);

        await withLargePackets((writer) => writer('workspaces').where('id', shared.workspace).update({ user_acl: '{}' }));
        await settled();
        expect(await deadLetters()).toEqual([]);
        expect(await projection?.(new AbortController().signal)).toBeUndefined();
        expect(await readModelDifferences(database)).toEqual([]);
      }, 60_000);

      test('with less, what has no room is a dead letter with its reason, and --retry takes it when there is room', async () => {
        await setPackets(128 * 1024);
        const large = await insertRunningTask(database);
        const fits = await insertRunningTask(database);
        const value = async (build: Buffer, length: number) =>
          database('workspace_build_parameters')
            .where('workspace_build_id', build)
            .update({ value: '"'.repeat(length) });
        await value(large.build, 200_000);
        await value(fits.build, 120_000);
        start();
        await settled();
        expect(await deadLetters()).toEqual([
          expect.objectContaining({
            ref: large.workspace,
            error: expect.stringContaining('200000 bytes is more than max_allowed'),
          }),
        ]);
        expect(await isProjected(fits.workspace)).toBe(true);

        const printed = vi.spyOn(console, 'log').mockReturnValue();
        await expect(onNewConnections(retryFailedWorkspaces)).rejects.toThrow('1 workspaces still cannot be projected');
        expect(printed.mock.calls).toEqual([
          [expect.stringMatching(`${formatUuid(large.workspace)}: .*max_allowed_packet`)],
          ['1 workspaces tried again; 0 projected'],
        ]);
        printed.mockRestore();
        await setPackets(mebibyte);
        expect(await onNewConnections(retryDeadLetters)).toEqual({ tried: 1, left: [] });
        expect(await deadLetters()).toEqual([]);
        expect(await readModelDifferences(database)).toEqual([]);
      });
    });

    describe('one that ends the connection whenever it is read or written', () => {
      test('becomes a dead letter with its first error; the others are projected meanwhile', async () => {
        const first = await insertTasks(20);
        const killer = await insertRunningTask(database, { name: 'cut-the-cable' });
        const second = await insertTasks(20);
        const projector = start({ address: await breaksOn('cut-the-cable') });
        await until('the first others are there', async () => (await database('workspace_tasks')).length > 0);
        const later = await insertRunningTask(database);
        await until('the later one is there', () => isProjected(later.workspace));
        for (let i = 0; (await outboxLagMs(database)) !== undefined; i++) {
          expect(i).toBeLessThan(100);
          await insertRunningTask(database); // something always goes on
          await sleep(300);
        }
        for (const { workspace } of [...first, ...second]) expect(await isProjected(workspace)).toBe(true);
        const [letter, ...more] = await deadLetters();
        expect(more).toEqual([]);
        expect(letter).toMatchObject({ kind: changeKinds.workspace, ref: killer.workspace });
        expect(letter?.error).toMatch(/connection|ECONNRESET/i);
        expect(letter?.error).not.toMatch(/rollback|EPIPE|closed state/i);
        await until('it is counted', () => projector.status().deadLetters === 1);
      }, 90_000);

      test('does not stop the sweep, the rebuild and verify', async () => {
        const others = await insertTasks(10);
        const killer = await insertRunningTask(database, { name: 'cut-the-cable' });
        await projectAll(database);
        await database('workspace_changes').delete();
        const address = await breaksOn('cut-the-cable');
        const weak = openDatabase(address, { size: 2, statementTimeoutMs: 10_000, acquireTimeoutMs: 10_000 });
        try {
          const [one] = others;
          await database('workspace_tasks')
            .where('id', one?.workspace ?? '')
            .update({ prompt: 'wrong' });
          const found = await readModelDifferences(weak);
          expect(found).toHaveLength(2);
          expect(found).toContainEqual(
            expect.stringContaining(`${formatUuid(one?.workspace ?? newId())} prompt: stored "wrong"`),
          );
          expect(found).toContainEqual(expect.stringContaining(`${formatUuid(killer.workspace)} error: stored not compared`));

          expect(await projectAll(weak)).toEqual({ workspaces: 11, changed: 1, deadLetters: 1 });
          expect(await deadLetters()).toEqual([expect.objectContaining({ ref: killer.workspace })]);
          expect((await deadLetters())[0]?.error).not.toMatch(/rollback/i);

          // As a dead letter it does not take others along, and it is not looked for again and again.
          const projector = start({ address, sweepPassMs: 0 });
          await until('the sweep has come round', () => projector.status().swept > 30);
          await database('workspace_tasks')
            .where('id', one?.workspace ?? '')
            .update({ prompt: 'wrong' });
          await until('it is repaired', () => projector.status().repairs === 1);
          expect(await deadLetters()).toHaveLength(1);
          expect(await database('workspace_changes')).toEqual([]);
        } finally {
          await closeDatabase(weak);
        }
      }, 90_000);

      test('found by the sweep, it becomes a dead letter, too', async () => {
        const others = await insertTasks(10);
        const killer = await insertRunningTask(database, { name: 'cut-the-cable' });
        await projectAll(database);
        await database('workspace_changes').delete();
        start({ address: await breaksOn('cut-the-cable'), sweepPassMs: 0 });
        await until('it is found', async () => (await deadLetters()).length > 0);
        expect(await deadLetters()).toEqual([expect.objectContaining({ ref: killer.workspace })]);
        for (const { workspace } of others) expect(await isProjected(workspace)).toBe(true);
      }, 90_000);
    });

    test('one with a value that the server refuses becomes a dead letter with the reason', async () => {
      const others = await insertTasks(10);
      const bad = await insertRunningTask(database);
      const lax = openDatabase({ ...served.server.address, database: 'tasks' }, { size: 1, statementTimeoutMs: 30_000 });
      await lax.raw("set sql_mode = ''");
      await lax('workspaces').where('id', bad.workspace).update({ created_at: '0000-00-00 00:00:00' });
      await closeDatabase(lax);
      start();
      await settled();
      expect(await deadLetters()).toEqual([
        expect.objectContaining({ ref: bad.workspace, error: expect.stringMatching(/incorrect datetime value/i) }),
      ]);
      for (const { workspace } of others) expect(await isProjected(workspace)).toBe(true);
    });

    test('times that are none leave their field out of a list, and nothing else', async () => {
      const [good, never, early] = await insertTasks(3);
      const lax = openDatabase({ ...served.server.address, database: 'tasks' }, { size: 1, statementTimeoutMs: 30_000 });
      await lax.raw("set sql_mode = ''");
      const set = (id: Buffer | undefined, values: object) =>
        lax('workspaces')
          .where('id', id ?? '')
          .update(values);
      await set(good?.workspace, { last_used_at: '2026-01-01 00:00:00' });
      await set(never?.workspace, { last_used_at: '0000-00-00 00:00:00' });
      await set(early?.workspace, { created_at: '0000-05-05 00:00:00', last_used_at: '0000-05-05 00:00:00' });
      await closeDatabase(lax);
      await projectAll(database);
      expect(await deadLetters()).toEqual([]);
      const { rows } = await tasks.list(everything, { filter: {}, order: 'created_at desc', limit: 10 });
      const answer = toListTasksResponse({ rows }, newId());
      const json = toJson(ListTasksResponseSchema, answer) as { tasks: { lastUsedAt?: string; createdAt?: string }[] };
      expect(json.tasks).toHaveLength(3);
      expect(json.tasks.filter(({ lastUsedAt }) => lastUsedAt !== undefined)).toHaveLength(1);
      expect(json.tasks.filter(({ createdAt }) => createdAt !== undefined)).toHaveLength(2);
      const bytes = encodeListTasksResponse({ rows }, newId());
      expect(fromBinary(ListTasksResponseSchema, bytes)).toEqual(answer);
      // Pages go on behind such a row.
      const first = await tasks.list(everything, { filter: {}, order: 'created_at', limit: 1 });
      const position = decodePosition(encodePosition(first.next ?? [Buffer.alloc(0)]), 'created_at');
      const rest = await tasks.list(everything, {
        filter: {},
        order: 'created_at',
        limit: 10,
        ...(position === undefined ? {} : { after: position }),
      });
      expect([...first.rows, ...rest.rows].map(({ id }) => formatUuid(id))).toEqual(
        rows.toReversed().map(({ id }) => formatUuid(id)),
      );
    });

    test('words and kinds that nobody knows are no reason to stop', async () => {
      const task = await insertRunningTask(database);
      await database('workspace_agents').where('id', task.agent).update({ lifecycle_state: '\u{1f995}' });
      await database('workspace_apps').where('id', task.app).update({ health: '' });
      await database('workspace_builds').where('id', task.build).update({ transition: 'hibern8' });
      await insertSource(database, 'workspace_app_statuses', { workspace_id: task.workspace, state: 'who knows' });
      await database('workspace_changes').insert([{ kind: 99, ref: newId() }]);
      start();
      await settled();
      expect(await isProjected(task.workspace)).toBe(true);
      expect(await deadLetters()).toEqual([]);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('a dead letter of a row that belongs to no workspace is removed by --retry', async () => {
      await addDeadLetter(database, { kind: changeKinds.job, ref: newId() }, new Error('it was so once'));
      expect(await retryDeadLetters(database)).toEqual({ tried: 1, left: [] });
      expect(await deadLetters()).toEqual([]);
    });
  },
  ['mariadb', 'mysql'],
);
