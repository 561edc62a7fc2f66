import { create } from '@bufbuild/protobuf';
import { timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../../src/call/caller.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatDatetime } from '../../src/db/datetime.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { CountTasksOverTimeRequestSchema, TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from '../../src/tasks/scope.ts';
import { maxTransitions } from '../../src/tasks/store/over-time-query.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { Dice } from '../support/dice.ts';
import { measureRead } from '../support/measure-read.ts';
import { aTask, insertTasks, newId, type TaskInit } from '../support/tasks.ts';
import { createTasksService, listAllTasks, type TestTasksService } from '../support/tasks-service.ts';
import { callerWith, testCall } from '../support/test-call.ts';

const now = Date.parse('2026-06-02T12:34:56.789Z');
const quarter = 15 * 60_000;
const first = Date.parse('2026-06-01T12:45:00Z');
const home = newId();
const away = newId();
const someone = newId();
const other = newId();
const busy = newId();
const group = newId();
const template = newId();

const memberships = [{ organizationId: home, roles: [], customRoles: [] }];
const site = callerWith({ roles: ['owner'] });
const asSomeone = callerWith({ userId: someone, memberships });
const asAdmin = callerWith({
  memberships: [{ organizationId: home, roles: ['organization-admin'], customRoles: [] }],
  groupIds: [group],
});
const asMember = callerWith({ memberships, groupIds: [group] });
const asStranger = callerWith({ memberships: [{ organizationId: newId(), roles: [], customRoles: [] }] });

type Kind = readonly [activity: number, kind: Partial<TaskInit>];

/** The kinds of tasks that a history ends with, and what they are: 1 waits, 2 works, 3 is failed. */
const kinds: readonly [Kind, ...Kind[]] = [
  [1, { waiting: true }],
  [1, { waiting: true, status: WorkspaceStatus.STARTING }],
  [2, {}],
  [3, { state: TaskState.FAILED }],
  [3, { state: TaskState.FAILED, phase: TaskPhase.PAUSED, status: WorkspaceStatus.STOPPED }],
  [0, { phase: TaskPhase.INITIALIZING, status: WorkspaceStatus.STARTING }],
  [0, { state: TaskState.IDLE, phase: TaskPhase.PAUSED, status: WorkspaceStatus.STOPPED }],
  [0, { state: TaskState.COMPLETE }],
  [0, { stateAt: null, phase: TaskPhase.PENDING, status: WorkspaceStatus.PENDING }],
  // Where tasks have a table of their own, the phase may be that of a build before the latest one.
  [0, { state: TaskState.IDLE, status: WorkspaceStatus.STOPPED }],
  [0, { state: TaskState.IDLE, status: WorkspaceStatus.DELETED }],
  [0, { state: TaskState.WORKING, status: WorkspaceStatus.DELETED }],
  [2, { state: TaskState.WORKING, status: WorkspaceStatus.STOPPED }],
  // Its workspace is not gone yet.
  [0, { state: TaskState.FAILED, phase: TaskPhase.PAUSED, status: WorkspaceStatus.DELETED }],
  [0, { deleted: true, state: TaskState.FAILED }],
];

interface Change {
  readonly at: number;
  readonly was: number;
  readonly became: number;
}

/** A task with its history. */
interface Told {
  readonly row: ReturnType<typeof aTask>;
  readonly isDeleted: boolean;
  readonly activity: number;
  readonly changes: readonly Change[];
}

describeOnEngines('counts over time', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: TestTasksService;
  const told: Told[] = [];

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    const dice = new Dice(20_261_207);
    for (let i = 0; i < 240; i++) {
      const [activity, kind] = dice.pick(kinds);
      const row = aTask({
        ...kind,
        ownerId: dice.pick([someone, other]),
        organizationId: dice.pick([home, home, away]),
        ...(dice.below(3) === 0 ? { templateId: template } : {}),
      });
      const changes: Change[] = [];
      let became = activity;
      for (let at = now - dice.below(6 * 3600_000); changes.length < 12 && dice.below(6) > 0; at -= dice.below(10 * 3600_000)) {
        const was = (became + 1 + dice.below(3)) % 4;
        changes.unshift({ at: dice.below(8) === 0 ? Math.ceil(at / quarter) * quarter - quarter : at, was, became });
        became = was;
        at = changes[0]?.at ?? at;
      }
      told.push({ row, isDeleted: kind.deleted === true, activity, changes });
    }
    await insertTasks(
      database,
      told.map(({ row }) => row),
    );
    await insertTransitions(told.flatMap(({ row, changes }) => changes.map((change) => ({ ...change, row }))));
    // A task that is gone has left its changes behind.
    await insertTransitions([{ row: aTask({ ownerId: someone, organizationId: home }), at: now - quarter, was: 1, became: 0 }]);
    const live = told.filter(({ isDeleted }) => !isDeleted);
    const shared = live.flatMap(({ row }, i) => [
      ...(i % 3 === 0 ? [{ row, kind: 2, subject_id: group }] : []),
      ...(i % 4 === 0 ? [{ row, kind: 1, subject_id: asMember.userId }] : []),
      ...(i % 5 === 0 ? [{ row, kind: 1, subject_id: someone }] : []),
    ]);
    await database.batchInsert(
      'workspace_task_acl',
      shared.map(({ row, kind, subject_id }) => ({
        ...{ kind, subject_id, created_at: row['created_at'], task_id: row.id },
        ...{ owner_id: row['owner_id'], organization_id: row['organization_id'] },
      })),
    );
    await knownSince(now - 48 * 3600_000);
    service = createTasksService(database, { clock: () => now });
  });
  afterAll(() => testDatabase.drop());

  let seq = 0;
  async function insertTransitions(changes: readonly (Change & Pick<Told, 'row'>)[]): Promise<void> {
    const rows = changes.map(({ row, at, was, became }) => ({
      ...{ changed_at: formatDatetime(timestampFromMs(at)), seq: ++seq, task_id: row.id, was, became },
      ...{ owner_id: row['owner_id'], organization_id: row['organization_id'] },
    }));
    await database.batchInsert('task_transitions', rows as never, 1000);
  }

  const knownSince = (at: number | undefined) =>
    database('projector_state').update({ transitions_since: at === undefined ? null : formatDatetime(timestampFromMs(at)) });

  const ask = async (caller: Caller, query: string) => {
    const answer = await service.countTasksOverTime(create(CountTasksOverTimeRequestSchema, { query }), testCall(caller));
    return {
      points: answer.points.map(({ time, waiting, working, failed }) => [
        time === undefined ? 0 : timestampDate(time).getTime(),
        waiting,
        working,
        failed,
      ]),
      start: answer.startTime && timestampDate(answer.startTime).getTime(),
      capped: [answer.waitingCapped, answer.workingCapped, answer.failedCapped],
    };
  };

  async function listed(caller: Caller, query: string): Promise<Set<string>> {
    const tasks = await listAllTasks(service, testCall(caller), { query, orderBy: 'created_at' });
    return new Set(tasks.map(({ id }) => id));
  }

  /** Counts the tasks one by one, at each time, by going through their histories. */
  function expectedOf(ids: ReadonlySet<string>): number[][] {
    const some = told.filter(({ row }) => ids.has(formatUuid(row.id)));
    const times = [...Array.from({ length: 96 }, (_, step) => first + step * quarter), now];
    return times.map((time) => {
      const activityOf = ({ activity, changes }: Told) => changes.find(({ at }) => at >= time)?.was ?? activity;
      const found = some.map((one) => (time === now ? one.activity : activityOf(one)));
      return [time, ...[1, 2, 3].map((activity) => found.filter((each) => each === activity).length)];
    });
  }

  const ofTemplate = `template:${formatUuid(template)}`;
  test.each([
    ['someone, of their own', asSomeone, 'owner:me'],
    ['someone, of all that they may read', asSomeone, 'owner:*'],
    ['a member, of an owner', asMember, `owner:${formatUuid(other)}`],
    ['a member, of all that they may read', asMember, 'owner:*'],
    ['a member, of the organization', asMember, `organization:${formatUuid(home)}`],
    ['an admin, of all that they may read', asAdmin, 'owner:*'],
    ['an admin, of an owner', asAdmin, `owner:${formatUuid(other)}`],
    ['the site owner, of everyone', site, 'owner:*'],
    ['the site owner, of an organization', site, `organization:${formatUuid(away)}`],
    ['the site owner, of an owner in an organization', site, `owner:${formatUuid(someone)} organization:${formatUuid(away)}`],
    ['a stranger', asStranger, 'owner:*'],
    ['a stranger, of an owner', asStranger, `owner:${formatUuid(someone)}`],
    ['a token that is good for nothing', { ...site, onlyIds: [] }, 'owner:*'],
    ['a token that is good for one task', { ...site, onlyIds: [] as Buffer[] }, 'owner:*'],
  ] as const)('%s are those of the histories of what is listed', async (name, given, whose) => {
    const caller = name.endsWith('one task') ? { ...given, onlyIds: told.slice(0, 1).map(({ row }) => row.id) } : given;
    // What is deleted counts, too, unless something is said about what a task is now.
    for (const [term, deletedToo] of [
      ['', true],
      [ofTemplate, true],
      ['created_after:2025-01-01', true],
      ['created_after:2027-01-01', true],
      ['name:task', true],
      ['status:running', false],
      ['waiting:true', false],
      ['status:deleted', false],
    ] as const) {
      const query = `${whose} ${term}`;
      const ids = await listed(caller, query);
      if (deletedToo) for (const id of await listed(caller, `${query} status:deleted`)) ids.add(id);
      expect(await ask(caller, query), query).toEqual({
        points: expectedOf(ids),
        start: undefined,
        capped: [false, false, false],
      });
    }
  });

  test.each([
    ['state:failed', ({ activity, isDeleted }: Told) => activity === 3 && !isDeleted],
    ['state:working phase:active', ({ activity, isDeleted }: Told) => activity === 2 && !isDeleted],
    ['waiting:false', ({ activity, isDeleted }: Told) => activity !== 1 || isDeleted],
  ] as const)('of %s have what is so now, at the end', async (term, holds) => {
    const { points } = await ask(site, `owner:* ${term}`);
    const found = told.filter(holds);
    expect(points.at(-1)).toEqual([now, ...[1, 2, 3].map((one) => found.filter(({ activity }) => activity === one).length)]);
    expect(points.flat().every((count) => count >= 0)).toBe(true);
  });

  test('refuse a wrong query as counts do', async () => {
    await expect(ask(site, 'status:nope')).rejects.toMatchObject({ rawMessage: expect.stringContaining('status') as string });
  });

  test('begin where the service has begun to keep them', async () => {
    await knownSince(now - 3 * 3600_000);
    const since = await ask(site, 'owner:*');
    await knownSince(undefined);
    const unknown = await ask(site, 'owner:*');
    await knownSince(now - 48 * 3600_000);
    const whole = await ask(site, 'owner:*');
    expect(since.points).toEqual(whole.points.slice(-13));
    expect(since.start).toBe(Math.floor((now - 3 * 3600_000) / 1000) * 1000);
    expect(unknown.points).toEqual(whole.points.slice(-1));
    expect(unknown.start).toBe(now);
  });

  test('begin later where there are more changes than are read, and read no more', async () => {
    const row = aTask({ ownerId: busy, organizationId: away });
    await insertTasks(database, [row]);
    // It has changed every four seconds, over eleven hours and some.
    const every = 4000;
    await insertTransitions(
      Array.from({ length: maxTransitions + 200 }, (_, i) => ({
        ...{ row, at: now - 1000 - i * every, was: i % 2 === 0 ? 1 : 2, became: i % 2 === 0 ? 2 : 1 },
      })),
    );
    await database.raw('analyze table task_transitions, workspace_tasks, workspace_task_acl');
    const cut = Math.floor((now - 1000 - maxTransitions * every) / 1000) * 1000;
    const { points, start } = await ask(site, `owner:${formatUuid(busy)}`);
    expect(start).toBe(cut);
    expect(points[0]?.[0]).toBe(Math.ceil(cut / quarter) * quarter);
    expect(points.every(([, waiting = 0, working = 0, failed]) => waiting + working === 1 && failed === 0)).toBe(true);
    expect((await ask(site, 'owner:*')).start).toBeGreaterThanOrEqual(cut);
    // Others' changes do not shorten one's own.
    expect((await ask(asSomeone, 'owner:me')).start).toBeUndefined();

    for (const [caller, filter, index, most] of [
      [asSomeone, { ownerId: someone }, 'own', 3000],
      [asAdmin, { organizationId: home }, 'org', 4000],
      [site, {}, 'PRIMARY', 4 * maxTransitions],
      [site, { templateIds: [template] }, 'PRIMARY', 4 * maxTransitions],
    ] as const) {
      const { plan, steps } = await measureRead(engine, testDatabase.address, (tasks) =>
        tasks.countOverTime(scopeOf(caller), filter, formatDatetime(timestampFromMs(first))),
      );
      const ofTransitions = plan.filter(({ table, type }) => table === 'c' && type === 'range');
      expect(new Set(ofTransitions.map(({ key }) => key))).toEqual(new Set([index]));
      expect(plan.filter(({ table, type, key }) => table === 't' && type === 'eq_ref' && key === 'PRIMARY')).not.toEqual([]);
      expect(steps).toBeLessThanOrEqual(most);
    }
  });
});
