import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../../src/call/caller.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import {
  CountTasksRequestSchema,
  type CountTasksResponse,
  type Task,
  TaskPhase,
  TaskState,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from '../../src/tasks/scope.ts';
import type { TaskFilter } from '../../src/tasks/store/task-filter.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { measureRead } from '../support/measure-read.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';
import { createTasksService, listAllTasks, type TestTasksService } from '../support/tasks-service.ts';
import { callerWith, testCall } from '../support/test-call.ts';

const limit = 1000;
const home = newId();
const away = newId();
const busy = newId();
const other = newId();
const group = newId();

const memberships = [{ organizationId: home, roles: [], customRoles: [] }];
const site = callerWith({ roles: ['owner'] });
const asBusy = callerWith({ userId: busy, memberships });
const asAdmin = callerWith({
  memberships: [{ organizationId: home, roles: ['organization-admin'], customRoles: [] }],
  groupIds: [group],
});
const asMember = callerWith({ memberships, groupIds: [group] });
const asBoth = callerWith({
  userId: other,
  memberships: [...memberships, { organizationId: away, roles: [], customRoles: [] }],
  groupIds: [group],
});

/** Kinds of tasks, how many a busy owner has, and how many others have. */
const kinds = [
  { status: WorkspaceStatus.RUNNING, phase: TaskPhase.ACTIVE, state: TaskState.WORKING, many: 1300, few: 30 },
  { status: WorkspaceStatus.RUNNING, waiting: true, many: limit, few: 7 },
  { status: WorkspaceStatus.STARTING, waiting: true, many: 1, few: 1 },
  { status: WorkspaceStatus.STARTING, phase: TaskPhase.INITIALIZING, state: TaskState.WORKING, many: 3, few: 2 },
  { status: WorkspaceStatus.RUNNING, phase: TaskPhase.ERROR, state: TaskState.COMPLETE, many: 5, few: 3 },
  { status: WorkspaceStatus.FAILED, phase: TaskPhase.ERROR, state: TaskState.FAILED, many: limit + 1, few: 4 },
  { status: WorkspaceStatus.STOPPED, phase: TaskPhase.PAUSED, state: TaskState.IDLE, many: 400, few: 5 },
  { status: WorkspaceStatus.PENDING, phase: TaskPhase.PENDING, stateAt: null, many: 12, few: 6 },
  // Where tasks have a table of their own, the phase may be that of a build before the latest one: this one does not wait.
  { status: WorkspaceStatus.STOPPED, phase: TaskPhase.ACTIVE, state: TaskState.IDLE, many: 14, few: 9 },
  // Its workspace is not gone yet.
  { status: WorkspaceStatus.DELETED, phase: TaskPhase.PAUSED, state: TaskState.IDLE, many: 2, few: 1 },
  { deleted: true, many: 1500, few: 8 },
];

describeOnEngines('counts', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: TestTasksService;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    const tasks = kinds.flatMap(({ many, few, ...kind }) => [
      ...Array.from({ length: many }, () => aTask({ ...kind, ownerId: busy, organizationId: home })),
      ...Array.from({ length: few }, () => aTask({ ...kind, ownerId: other, organizationId: home })),
      ...Array.from({ length: few }, () => aTask({ ...kind, ownerId: other, organizationId: away })),
      ...Array.from({ length: few }, () => aTask({ ...kind, ownerId: busy, organizationId: away })),
    ]);
    await insertTasks(database, tasks);
    // Every fifth is shared with the group, every seventh with a user, too.
    const shared = tasks.flatMap((task, i) =>
      [
        ...(i % 5 === 0 ? [[2, group] as const] : []),
        ...(i % 7 === 0 ? [[1, asMember.userId] as const, [1, busy] as const, [1, asAdmin.userId] as const] : []),
      ].map(([kind, subject_id]) => ({
        kind,
        subject_id,
        created_at: task['created_at'],
        task_id: task.id,
        owner_id: task['owner_id'],
        organization_id: task['organization_id'],
      })),
    );
    await database.batchInsert(
      'workspace_task_acl',
      shared.filter(({ task_id }) => tasks.some((task) => task.id === task_id && task['live'] === 1)),
      1000,
    );
    await database.raw('analyze table workspace_tasks, workspace_task_acl');
    service = createTasksService(database);
  });
  afterAll(() => testDatabase.drop());

  const waits = ({ waitingSince, status }: Task) => {
    const mayWait = status === WorkspaceStatus.STARTING || status === WorkspaceStatus.RUNNING;
    expect(waitingSince === undefined || mayWait).toBe(true);
    return waitingSince !== undefined;
  };
  const of = (key: 'status' | 'phase', value: number) => (task: Task) => task[key] === value;
  const inState = (state: TaskState) => (task: Task) => task.currentState?.state === state;
  /** Terms of queries, with what they mean; what is deleted is among the tasks of those with its status. */
  const terms: readonly (readonly [term: string, ...holds: ((task: Task) => boolean)[]])[] = [
    [''],
    ['status:running', of('status', WorkspaceStatus.RUNNING)],
    ['status:failed', of('status', WorkspaceStatus.FAILED)],
    ['status:deleted'],
    ['status:deleted phase:paused'],
    ['status:deleted phase:active', () => false],
    ['status:pending waiting:true', () => false],
    ['waiting:true', waits],
    ['waiting:false', (task) => !waits(task)],
    ['status:starting waiting:false', of('status', WorkspaceStatus.STARTING), (task) => !waits(task)],
    ['phase:error', of('phase', TaskPhase.ERROR)],
    ['phase:active waiting:false', of('phase', TaskPhase.ACTIVE), (task) => !waits(task)],
    ['state:idle', inState(TaskState.IDLE)],
    ['state:idle phase:active', inState(TaskState.IDLE), of('phase', TaskPhase.ACTIVE)],
    ['state:idle phase:active waiting:false', inState(TaskState.IDLE), of('phase', TaskPhase.ACTIVE), (task) => !waits(task)],
    ['status:stopped waiting:false', of('status', WorkspaceStatus.STOPPED), (task) => !waits(task)],
    ['state:idle waiting:true', waits],
    ['state:working status:running', inState(TaskState.WORKING), of('status', WorkspaceStatus.RUNNING)],
    ['state:failed waiting:true', () => false],
    ['created_after:2026-01-01'],
    ['template:none', () => false],
  ];
  const scopes = [
    ['the busy owner, of their own', asBusy, 'owner:me'],
    ['the busy owner, of all that they may read', asBusy, 'owner:*'],
    ['the busy owner, of one organization', asBusy, `owner:me organization:${formatUuid(home)}`],
    ['a member, of the busy owner', asMember, `owner:${formatUuid(busy)}`],
    ['a member, of all that they may read', asMember, 'owner:*'],
    ['a member of two organizations', asBoth, 'owner:*'],
    ['a member of two organizations, of one', asBoth, `organization:${formatUuid(away)}`],
    ['an admin, of all that they may read', asAdmin, 'owner:*'],
    ['an admin, of the organization', asAdmin, `organization:${formatUuid(home)}`],
    ['the site owner, of everyone', site, 'owner:*'],
    ['the site owner, of the busy owner', site, `owner:${formatUuid(busy)}`],
    ['the site owner, of the busy owner elsewhere', site, `owner:${formatUuid(busy)} organization:${formatUuid(away)}`],
    ['a token that is good for nothing', { ...site, onlyIds: [] }, 'owner:*'],
  ] as const;

  test.each(scopes)('%s are those of all pages', async (_name, caller, whose) => {
    const [live, deleted] = [await listAll(caller, whose), await listAll(caller, `${whose} status:deleted`)];
    for (const [term, ...holds] of terms) {
      const query = `${whose} ${term}`;
      const listed = (term.includes('deleted') ? deleted : live).filter((task) => holds.every((each) => each(task)));
      const counted = await service.countTasks(create(CountTasksRequestSchema, { query }), testCall(caller));
      expect(plain(counted), query).toEqual(expectedOf(listed));
    }
  });

  const listAll = (caller: Caller, query: string) => listAllTasks(service, testCall(caller), { query, orderBy: 'created_at' });

  test.each<[string, Caller, TaskFilter, indexes: string[]]>([
    ['everyone', site, {}, ['all_kind', 'all_st_sa']],
    ['everyone, of a status', site, { status: WorkspaceStatus.RUNNING }, ['all_kind', 'all_st_sa']],
    ['everyone, that wait', site, { waiting: true }, ['all_kind', 'all_st_sa']],
    ['everyone, that do not wait', site, { waiting: false }, ['all_kind', 'all_st_sa']],
    ['everyone, of a phase', site, { phase: TaskPhase.ERROR }, ['all_kind']],
    ['everyone, of a state', site, { state: TaskState.FAILED }, ['all_kind']],
    ['one organization', asAdmin, { organizationId: home }, ['org_kind', 'org_st_sa']],
    ['one owner', site, { ownerId: busy }, ['own_kind', 'own_st_sa']],
    ["one's own", asBusy, { ownerId: busy }, ['own_kind', 'own_st_sa']],
  ])('of %s read each bucket up to the limit, in one statement, by indexes alone', async (_name, caller, filter, indexes) => {
    const { plan, steps } = await measureRead(engine, testDatabase.address, (tasks) => tasks.countKinds(scopeOf(caller), filter));
    const ofTasks = plan.filter(({ table, key }) => table === 't' && indexes.includes(key ?? ''));
    expect(new Set(ofTasks.map(({ key }) => key))).toEqual(new Set(indexes));
    for (const { Extra } of ofTasks) expect(Extra).toContain('Using index');
    // Up to the limit of each bucket, or twice what is below it; none has walked the 3,700 rows of a scope.
    const buckets = ofTasks.length / 2;
    expect(steps).toBeLessThanOrEqual(buckets * (limit + 1));
    // What is shared with one by name is looked up, too.
    const looked = plan.filter(({ table, key }) => table === 't' && !indexes.includes(key ?? ''));
    expect(looked.length).toBeLessThanOrEqual(caller === asBusy ? 1 : 0);
  });
});

type Counted = readonly [count: number, capped: boolean];

/** What the counts of some tasks must be, as {@link plain} has them. */
function expectedOf(tasks: readonly Task[]): ReturnType<typeof plain> {
  const of = (holds: (task: Task) => boolean): Counted => {
    const count = tasks.filter(holds).length;
    return [Math.min(count, limit), count > limit];
  };
  return {
    total: of(() => true),
    waiting: of(({ waitingSince }) => waitingSince !== undefined),
    statuses: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((value) => [value, ...of(({ status }) => status === value)]),
    phases: [1, 2, 3, 4, 5, 6].map((value) => [value, ...of(({ phase }) => phase === value)]),
    states: [1, 2, 3, 4].map((value) => [value, ...of(({ currentState }) => currentState?.state === value)]),
  };
}

function plain({ total, waiting, statuses, phases, states }: CountTasksResponse) {
  const of = (one: { count: number; capped: boolean } | undefined): Counted => [one?.count ?? -1, one?.capped ?? false];
  return {
    total: of(total),
    waiting: of(waiting),
    statuses: statuses.map((one) => [one.status as number, ...of(one)] as const),
    phases: phases.map((one) => [one.phase as number, ...of(one)] as const),
    states: states.map((one) => [one.state as number, ...of(one)] as const),
  };
}
