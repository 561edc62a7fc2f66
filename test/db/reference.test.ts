import { isDeepStrictEqual } from 'node:util';
import { create, toJson } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import type { Call } from '../../src/call/call.ts';
import type { Caller } from '../../src/call/caller.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { BadRequestSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import {
  CountTasksOverTimeRequestSchema,
  CountTasksRequestSchema,
  type GetTaskRequest,
  GetTaskRequestSchema,
  ListQueryValuesRequestSchema,
  ListTasksRequestSchema,
  QueryKey,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { createResolveQuery } from '../../src/tasks/resolve-query.ts';
import { scopeOf } from '../../src/tasks/scope.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import type { TaskMessages } from '../../src/tasks/task-messages.ts';
import { readWatchQuery } from '../../src/tasks/task-query.ts';
import { createFeedRepository } from '../../src/watch/feed-repository.ts';
import { createWatchScope } from '../../src/watch/watch-scope.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { type Engine, engines } from '../support/engines.ts';
import { giveTasksRowsOfTheirOwn, otherId, withOtherIds } from '../support/own-tasks.ts';
import { type Question, questionsAbout } from '../support/random-question.ts';
import { inactiveSeconds, randomWorld } from '../support/random-world.ts';
import { type Answer, createReference, type Reference } from '../support/reference.ts';
import { createTasksService, type TestTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';
import { loadWorld, tokenOf, type World } from '../support/world.ts';

/**
 * Random worlds, and in each of them random questions, of which every one must be answered as the rules say. The engines share the
 * worlds out. For a longer run set REFERENCE_WORLDS and REFERENCE_QUESTIONS; to see one world again on every engine,
 * REFERENCE_SEED=<its seed> REFERENCE_WORLDS=1.
 */
const firstSeed = Number(process.env['REFERENCE_SEED'] ?? 1);
const worlds = Number(process.env['REFERENCE_WORLDS'] ?? 30);
const questionsPerWorld = Number(process.env['REFERENCE_QUESTIONS'] ?? 100);
/** Questions that are asked at the same time. */
const callers = 4;
/** Booleans as most people write them. */
const spelledOut: Readonly<Record<string, string>> = { t: 'true', 1: 'true', f: 'false', 0: 'false' };
/** Most differences that a failure shows. */
const shown = 5;
/** Keys of the queries that found something, and those with a word as their value also with that. */
const useful = new Set<string>();

/** The seeds of an engine's share of the worlds. */
function seedsOf(engine: Engine): number[] {
  const found = inject('engines');
  const sharing = engines.filter((name) => found[name] !== undefined && !('notRun' in found[name]));
  const seeds = Array.from({ length: worlds }, (_, index) => firstSeed + index);
  return worlds === 1 || !sharing.includes(engine)
    ? seeds
    : seeds.filter((_, index) => sharing[index % sharing.length] === engine);
}

describeOnEngines('the reference', (engine) => {
  let testDatabase: TestDatabase;
  let service: TestTasksService;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine, { migrate: false });
    const { database } = testDatabase;
    // Nobody follows the outbox here.
    await migrateUp(database, { triggers: false });
    service = createTasksService(database, { agentInactiveSeconds: inactiveSeconds, cacheSeconds: 0 });
  });
  afterAll(() => testDatabase.drop());

  test.each(seedsOf(engine))('agrees in world %i', { timeout: 300_000 }, async (seed) => {
    const { database } = testDatabase;
    const now = new Date();
    const world = randomWorld(seed, now);
    const ids = idsOf(world, seed);
    // What names a task by its id, among what a token is good for.
    const allowed = (entry: string) => (entry.startsWith('task:') ? ids.asked(entry) : entry);
    const api_keys = world.api_keys.map((key) => ({ ...key, allow_list: key.allow_list?.map(allowed) ?? null }));
    await loadWorld(database, { ...world, api_keys });
    expect((await projectAll(database)).deadLetters).toBe(0);
    if (ids.areOwn) {
      await giveTasksRowsOfTheirOwn(database);
      expect((await projectAll(database)).deadLetters).toBe(0);
    }
    const reference = createReference(world, now, inactiveSeconds, ids.areOwn);
    const authenticate = createAuthenticate(createApiKeyRepository(database), 0);
    const calls = new Map<string, Call>();
    for (const { id, deleted } of world.users) {
      if (deleted) continue;
      const caller = await authenticate((name) => (name === 'coder-session-token' ? tokenOf(id) : undefined));
      calls.set(id, testCall(caller));
    }
    const callOf = (callerId: string): Call => calls.get(callerId) ?? expect.unreachable('nobody calls');

    const ask = fc.asyncProperty(questionsAbout(world), async (question) => {
      const expected = reference.list(question.callerId, question);
      const { caller } = callOf(question.callerId);
      const asked = { ...question, query: ids.asked(question.query) };
      const problems = await compareList(service, callOf(question.callerId), asked, expected, ids);
      problems.push(...(await compareCounts(service, callOf(question.callerId), asked, expected)));
      problems.push(...(await compareWatch(database, caller, asked.query, expected, ids)));
      fail(world, question.callerId, problems);
      if ('tasks' in expected && expected.tasks.length > 0) {
        for (const [, key = '', value = ''] of question.query.toLowerCase().matchAll(/([\w-]+)"?:"?(\w+)/g)) {
          useful.add(key).add(`${key}:${spelledOut[value] ?? value}`);
        }
      }
    });
    await Promise.all(
      Array.from({ length: callers }, (_, caller) =>
        fc.assert(ask, { seed: seed * callers + caller, numRuns: Math.ceil(questionsPerWorld / callers) }),
      ),
    );
    await Promise.all([...calls].map(([callerId, call]) => compareGets(service, call, world, reference, callerId, ids)));
    for (const [callerId, call] of calls) {
      const expected = reference.list(callerId, { query: 'owner:*', orderBy: '' });
      fail(world, callerId, await compareValues(service, call, world, expected));
    }
  });
});

// Of other seeds, or of fewer questions, that is not certain.
const isUsual = firstSeed === 1 && worlds >= 30 && questionsPerWorld >= 100;
test.runIf(isUsual)('each key and each word has found something', () => {
  const wanted = {
    status: 'pending starting running stopping stopped failed canceling canceled deleting deleted',
    phase: 'pending initializing active paused unknown error',
    state: 'working idle complete failed failure',
    waiting: 'true false',
    'has-agent': 'connecting connected disconnected timeout',
    healthy: 'true false',
    outdated: 'true false',
    has_external_agent: 'true false',
    shared: 'true false',
    dormant: 'true false',
  };
  const keys =
    'created_after created_before has-ai-task id last_used_after last_used_before name organization owner param prompt'.split(
      ' ',
    );
  const words = Object.entries(wanted).flatMap(([key, values]) => values.split(' ').map((value) => `${key}:${value}`));
  expect([...useful]).toEqual(
    expect.arrayContaining([...keys, 'shared_with_group', 'shared_with_user', 'shared_with_user:me', 'template', ...words]),
  );
});

/**
 * How tasks are named in a world. The reference knows each by its workspace; in a third of the worlds tasks have rows and ids of their
 * own.
 */
interface Ids {
  readonly areOwn: boolean;
  /** A text with the ids of workspaces that are to be those of their tasks. */
  asked(text: string): string;
  /** The workspace of a task. */
  told(taskId: string): string;
}

function idsOf(world: World, seed: number): Ids {
  if (seed % 3 !== 0) return { areOwn: false, asked: (text) => text, told: (id) => id };
  const workspaces = world.workspaces.map(({ id }) => id);
  return { areOwn: true, asked: (text) => withOtherIds(text, workspaces), told: otherId };
}

/** Judges every task in memory, as a watch does, and returns what is not as it should be. */
async function compareWatch(
  database: Database,
  caller: Caller,
  query: string,
  expected: Answer,
  { told }: Ids,
): Promise<string[]> {
  const read = readWatchQuery(query);
  if ('refused' in expected || read.queryViolations.length > 0) return []; // also what depends on the clock
  const { filter } = await createResolveQuery(createNameLookup(database, 0))(read, query, { caller });
  const { parameterNames = [], parameterValues = [] } = filter ?? {};
  const ids = (await database.from('workspace_tasks').select('workspace_tasks.id')) as { id: Buffer }[];
  const { rows } = await createFeedRepository(database, inactiveSeconds).tasks(
    ids.map(({ id }) => id),
    { parameterNames: [...parameterNames, ...parameterValues.map(([name]) => name)], maxBytes: Number.POSITIVE_INFINITY },
  );
  const scope = scopeOf(caller);
  const { matches } = createWatchScope(scope, filter);
  const wanted = expected.tasks.map(({ id }) => id).toSorted();
  const shown = rows
    .filter(matches)
    .map(({ id }) => told(formatUuid(id)))
    .toSorted();
  const tasks = createTaskRepository(database, inactiveSeconds);
  const listed =
    filter === undefined ? [] : (await tasks.ids(scope, filter, 10_000)).map((id) => told(formatUuid(id))).toSorted();
  return [
    ...(isDeepStrictEqual(shown, wanted) ? [] : [`a watch of "${query}" shows ${shown.length} tasks, not ${wanted.length}`]),
    ...(isDeepStrictEqual(listed, wanted) ? [] : [`the ids of "${query}" are ${listed.length}, not ${wanted.length}`]),
  ];
}

/** Counts the tasks of a question, and returns what is not as many as the reference lists. */
async function compareCounts(
  service: TestTasksService,
  call: Call,
  { query, orderBy }: Question,
  expected: Answer,
): Promise<string[]> {
  const counted = await service.countTasks(create(CountTasksRequestSchema, { query }), call).catch((error: unknown) => {
    const { code, cause, message } = ConnectError.from(error);
    return code === Code.InvalidArgument ? undefined : `counting fails: ${message} ${String(cause)}`;
  });
  if (typeof counted === 'string') return [counted];
  if ('refused' in expected) {
    // An order, which is no part of a count, may be all that is wrong.
    const isWrong = expected.refused.some((field) => field !== 'order_by');
    return isWrong === (counted === undefined)
      ? []
      : [`counting "${query}" is ${isWrong ? 'not ' : ''}refused, beside "${orderBy}"`];
  }
  if (counted === undefined) return [`counting "${query}" is refused`];
  const { tasks } = expected;
  const isCounted = (what: string, got: { count: number; capped: boolean } | undefined, holds: (task: Task) => boolean) => {
    const count = tasks.filter(holds).length;
    return got?.count === count && !got.capped ? [] : [`"${query}" counts ${got?.count} ${what}, not ${count}`];
  };
  const { points } = await service.countTasksOverTime(create(CountTasksOverTimeRequestSchema, { query }), call);
  const last = points.at(-1);
  // Of what is deleted, nothing waits, works or is failed.
  const isNow = (what: string, count: number | undefined, holds: (task: Task) => boolean) =>
    isCounted(`that are ${what} at the end of a day`, count === undefined ? undefined : { count, capped: false }, (task) => {
      return task.status !== WorkspaceStatus.DELETED && holds(task);
    });
  return [
    ...isNow('waiting', last?.waiting, ({ waitingSince }) => waitingSince !== undefined),
    ...isNow('working', last?.working, ({ phase, currentState }) => {
      return phase === TaskPhase.ACTIVE && currentState?.state === TaskState.WORKING;
    }),
    ...isNow('failed', last?.failed, ({ currentState }) => currentState?.state === TaskState.FAILED),
    ...isCounted('in all', counted.total, () => true),
    ...isCounted('that wait', counted.waiting, ({ waitingSince }) => waitingSince !== undefined),
    ...counted.statuses.flatMap((one) => isCounted(`of status ${one.status}`, one, ({ status }) => status === one.status)),
    ...counted.phases.flatMap((one) => isCounted(`in phase ${one.phase}`, one, ({ phase }) => phase === one.phase)),
    ...counted.states.flatMap((one) =>
      isCounted(`of state ${one.state}`, one, ({ currentState }) => currentState?.state === one.state),
    ),
    ...(counted.statuses.length + counted.phases.length + counted.states.length === 20 ? [] : ['lacks a count']),
  ];
}

/** Lists the owners and the templates that a caller may choose from, and returns what is not as it should be. */
async function compareValues(service: TestTasksService, call: Call, world: World, expected: Answer): Promise<string[]> {
  if ('refused' in expected) return ['the list of all is refused'];
  const list = async (key: QueryKey): Promise<string[]> => {
    const { values } = await service.listQueryValues(create(ListQueryValuesRequestSchema, { key }), call);
    return values.map(({ value }) => value.toLowerCase());
  };
  const named = (names: readonly (string | undefined)[]) =>
    [...new Set(names.flatMap((name) => name?.toLowerCase() ?? []))].toSorted();
  const owners = named(
    expected.tasks.map(({ ownerId }) => world.users.find(({ id, deleted }) => id === ownerId && !deleted)?.username),
  );
  const templates = expected.tasks.flatMap(({ templateId, organizationId }) => {
    const template = world.templates.find(({ id, deleted }) => id === templateId && !deleted);
    // Coder gives no task the template of another organization; here some have one, which may be left out.
    return template === undefined ? [] : [{ name: template.name, isUsual: template.organization_id === organizationId }];
  });
  const [foundOwners, foundTemplates] = [await list(QueryKey.OWNER), await list(QueryKey.TEMPLATE)];
  const all = named(templates.map(({ name }) => name));
  const usual = named(templates.map(({ name, isUsual }) => (isUsual ? name : undefined)));
  return [
    ...(isDeepStrictEqual(foundOwners, owners) ? [] : [`owners are ${foundOwners.join()}, not ${owners.join()}`]),
    ...foundTemplates.flatMap((name) => (all.includes(name) ? [] : [`templates have ${name} too much`])),
    ...usual.flatMap((name) => (foundTemplates.includes(name) ? [] : [`templates lack ${name}`])),
    ...(isDeepStrictEqual(foundTemplates, named(foundTemplates)) ? [] : ['templates are in no order']),
  ];
}

/** Lists page by page, and returns what is not as it should be. */
async function compareList(
  service: TaskMessages,
  call: Call,
  question: Question,
  expected: Answer,
  { told }: Ids,
): Promise<string[]> {
  const { query, orderBy, pageSizes, includeTotalSize } = question;
  const problems: string[] = [];
  const got: Task[] = [];
  let pageToken = '';
  for (let page = 0; page === 0 || pageToken !== ''; page++) {
    const pageSize = pageSizes[page % pageSizes.length] as number;
    const request = create(ListTasksRequestSchema, { query, orderBy, pageSize, pageToken, includeTotalSize });
    const response = await service.listTasks(request, call).catch((error: unknown) => ConnectError.from(error));
    if (response instanceof ConnectError) {
      const fields = response
        .findDetails(BadRequestSchema)
        .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
      const refused = [...new Set(fields)].sort();
      if (response.code !== Code.InvalidArgument) return [`fails: ${String(response)} ${String(response.cause)}`];
      if ('tasks' in expected) return [`is refused for ${refused.join()}, instead of ${expected.tasks.length} tasks`];
      return refused.join() === expected.refused.join()
        ? []
        : [`is refused for ${refused.join()}, not for ${expected.refused.join()}`];
    }
    if ('refused' in expected) return [`finds ${response.count} tasks, instead of refusing ${expected.refused.join()}`];
    const total = expected.tasks.length;
    const left = total - got.length;
    const fits = pageSize === 0 ? 25 : Math.min(pageSize, 200);
    got.push(...response.tasks.map((task) => ({ ...task, id: told(task.id) })));
    pageToken = response.nextPageToken;
    if (response.tasks.length !== Math.min(left, fits)) {
      problems.push(`page ${page} of size ${fits} has ${response.tasks.length} tasks of the ${left} that are left`);
    }
    if (response.count !== response.tasks.length) problems.push(`page ${page} counts ${response.count}`);
    if ((pageToken === '') !== left <= fits)
      problems.push(`page ${page} has ${pageToken === '' ? 'no' : 'a'} token, ${left} are left`);
    if (response.totalSize !== (includeTotalSize ? total : undefined))
      problems.push(`total_size is ${response.totalSize}, not ${total}`);
    if (got.length > total + 200) break;
  }
  if ('refused' in expected) return problems;

  const place = (tasks: readonly Task[]) => new Map(tasks.map(({ id }, index) => [id, index]));
  const [wanted, found] = [place(expected.tasks), place(got)];
  for (const { id, name } of expected.tasks) if (!found.has(id)) problems.push(`lacks ${name} ${id}`);
  for (const { id, name } of got) if (!wanted.has(id)) problems.push(`has ${name} ${id} too much`);
  if (found.size < got.length) problems.push('shows a task twice');
  const firstMoved = got.findIndex(({ id }, index) => expected.tasks[index]?.id !== id);
  if (problems.length === 0 && firstMoved >= 0) {
    problems.push(`has ${got[firstMoved]?.name} at ${firstMoved}, where ${expected.tasks[firstMoved]?.name} belongs`);
  }
  for (const task of got) {
    const same = expected.tasks[wanted.get(task.id) ?? -1];
    if (same !== undefined) problems.push(...compareTasks(task, same));
  }
  return problems;
}

/** Gets every workspace by id, and half of them by owner and name, whether they are there to be read or not. */
async function compareGets(
  service: TaskMessages,
  call: Call,
  world: World,
  reference: Reference,
  callerId: string,
  { areOwn, asked, told }: Ids,
): Promise<void> {
  const get = async (identifier: GetTaskRequest['identifier']): Promise<Task | undefined> => {
    const response = await service.getTask(create(GetTaskRequestSchema, { identifier }), call).catch((error: unknown) => {
      if (ConnectError.from(error).code !== Code.NotFound) throw error;
      return undefined;
    });
    const task = response?.task;
    return response === undefined ? undefined : task === undefined ? create(TaskSchema) : { ...task, id: told(task.id) };
  };
  const compare = (how: string, got: Task | undefined, expected: Task | undefined): void => {
    if (got === undefined && expected === undefined) return;
    const problems =
      got === undefined || expected === undefined
        ? [`${how} is ${got === undefined ? 'not ' : ''}found: ${expected?.id ?? got?.id}`]
        : compareTasks(got, expected).map((problem) => `${how}: ${problem}`);
    fail(world, callerId, problems);
  };
  const turn = world.users.findIndex(({ id }) => id === callerId);
  for (const [index, { id, owner_id, name }] of world.workspaces.entries()) {
    compare(
      `get ${id}`,
      await get({ case: 'id', value: index % 2 === 0 ? asked(id) : asked(id).toUpperCase() }),
      reference.get(callerId, id),
    );
    if (areOwn) compare(`get of the workspace ${id}`, await get({ case: 'id', value: id }), undefined);
    // Half of them by name, each caller another half: that is as slow as by id, and finds less.
    if ((index + turn) % 2 === 1) continue;
    const username = world.users.find((user) => user.id === owner_id)?.username ?? owner_id;
    const owner =
      owner_id === callerId && index % 2 === 0 ? 'me' : ([username, username.toUpperCase(), owner_id][index % 3] as string);
    const given = index % 2 === 0 ? name : name.toUpperCase();
    const value = { $typeName: 'tasks.v1.TaskName' as const, owner, name: given };
    compare(`get ${owner}/${given}`, await get({ case: 'name', value }), reference.getByName(callerId, owner, given));
  }
}

/** The fields in which two messages of one task differ. */
function compareTasks(got: Task, expected: Task): string[] {
  const [a, b] = [toJson(TaskSchema, got), toJson(TaskSchema, expected)] as Record<string, unknown>[];
  const fields = [...new Set([...Object.keys(a ?? {}), ...Object.keys(b ?? {})])];
  return fields.flatMap((field) => {
    const [is, should] = [JSON.stringify(a?.[field]), JSON.stringify(b?.[field])];
    return is === should ? [] : [`${field} of ${got.id} is ${is?.slice(0, 200)}, not ${should?.slice(0, 200)}`];
  });
}

/** Fails with the first problems, and with the rows of the workspaces and of the caller that they are about. */
function fail(world: World, callerId: string, problems: readonly string[]): void {
  if (problems.length === 0) return;
  const about = world.workspaces.filter(({ id }) => problems.slice(0, shown).some((problem) => problem.includes(id))).slice(0, 2);
  const [user] = world.users.filter(({ id }) => id === callerId);
  const memberships = world.organization_members.filter(({ user_id }) => user_id === callerId);
  throw new Error(
    [
      ...problems.slice(0, shown),
      `caller ${JSON.stringify({ ...user, memberships })}`,
      ...about.map((workspace) => {
        const builds = world.workspace_builds.filter(({ workspace_id }) => workspace_id === workspace.id);
        const jobs = world.provisioner_jobs.filter(({ id }) => builds.some(({ job_id }) => job_id === id));
        const reports = world.workspace_app_statuses.filter(({ workspace_id }) => workspace_id === workspace.id);
        return JSON.stringify({ workspace, builds, jobs, reports });
      }),
    ].join('\n'),
  );
}
