import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { Registry } from 'prom-client';
import { expect } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { createFindUser } from '../../src/auth/user-lookup.ts';
import type { Call } from '../../src/call/call.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import {
  CountTasksOverTimeRequestSchema,
  CountTasksRequestSchema,
  GetTaskRequestSchema,
  ListQueryValuesRequestSchema,
  QueryKey,
  TaskState,
  WatchTasksRequestSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector } from '../../src/projection/projector.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { readTaskSource, type TaskSourceName } from '../../src/schema/task-source.ts';
import { createPageTokens } from '../../src/tasks/page-token.ts';
import { createResolveQuery } from '../../src/tasks/resolve-query.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createFeedRepository } from '../../src/watch/feed-repository.ts';
import { TaskFeed } from '../../src/watch/task-feed.ts';
import { addWatchMetrics } from '../../src/watch/watch-metrics.ts';
import { createWatchTasks } from '../../src/watch/watch-tasks.ts';
import { createTestDatabase } from './database.ts';
import type { Engine } from './engines.ts';
import { insertOrganization } from './people.ts';
import { insertSource } from './source-writer.ts';
import { newId } from './tasks.ts';
import { listAllTasks, tasksServiceOf } from './tasks-service.ts';
import { testCall } from './test-call.ts';
import { startTestServer, until } from './test-server.ts';

/** When everything of a test happens. */
export const rightsNow = '2026-01-01 00:00:00.000000';

/** A task to be written, with its workspace. */
export interface TaskInit {
  readonly name: string;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  readonly dormant?: boolean;
  readonly deleted?: boolean;
  readonly userAcl?: object;
  readonly groupAcl?: object;
}

/** A task that was written. */
export interface WrittenTask {
  readonly id: Buffer;
  readonly workspaceId: Buffer;
}

/** A database with a projector and everything that answers calls, where the tasks are workspaces, or have a table and ids of their own. */
export type RightsWorld = Awaited<ReturnType<typeof openRightsWorld>>;

/** Makes one. */
export async function openRightsWorld(engine: Engine, tasksAre: TaskSourceName) {
  const testDatabase = await createTestDatabase(engine);
  const { database, address } = testDatabase;
  const log = createLog('silent');
  const keys = createApiKeyRepository(database);
  const repository = createTaskRepository(database, 30);
  const resolveQuery = createResolveQuery(createNameLookup(database, 0));
  const service = tasksServiceOf({ tasks: repository, resolveQuery, pageTokens: createPageTokens([Buffer.alloc(32)]) });
  const feedRepository = createFeedRepository(database, 30);
  const feed = new TaskFeed(feedRepository, log);
  const watchTasks = createWatchTasks({
    tasks: repository,
    feed,
    feedRepository,
    resolveQuery,
    tokenKeys: [Buffer.alloc(32)],
    watchesPerCaller: 10,
    metrics: addWatchMetrics(new Registry(), feed),
  });
  const authenticate = createAuthenticate(keys, 0);
  const server = await startTestServer({
    handlers: { ...service, watchTasks },
    authenticate,
    findUser: createFindUser(database),
  });
  const projector = createProjector({ address, log, onEvents: () => feed.wake() });
  projector.start();
  const templateId = newId();

  /** Waits until all that was written is projected. */
  const settle = async (): Promise<void> => {
    projector.wake();
    await until('empty outbox', async () => (await outboxLagMs(database)) === undefined);
  };

  const insertTask = async (init: TaskInit): Promise<WrittenTask> => {
    const [workspaceId, taskId, build, job] = [newId(), newId(), newId(), newId()];
    const { organizationId: organization_id, ownerId: owner_id, name } = init;
    const times = { created_at: rightsNow, updated_at: rightsNow };
    await database('provisioner_jobs').insert({
      id: job,
      organization_id,
      started_at: rightsNow,
      completed_at: rightsNow,
      ...times,
    });
    await database('workspaces').insert({
      id: workspaceId,
      owner_id,
      organization_id,
      template_id: templateId,
      name: tasksAre === 'tasks' ? `w-${name}` : name,
      deleted: init.deleted ?? false,
      dormant_at: init.dormant === true ? rightsNow : null,
      user_acl: JSON.stringify(init.userAcl ?? {}),
      group_acl: JSON.stringify(init.groupAcl ?? {}),
      ...times,
    });
    await database('workspace_builds').insert({
      id: build,
      workspace_id: workspaceId,
      template_version_id: newId(),
      build_number: 1,
      transition: init.deleted === true ? 'delete' : 'start',
      job_id: job,
      has_ai_task: true,
      ...times,
    });
    await insertSource(database, 'workspace_app_statuses', { workspace_id: workspaceId, state: 'failure' });
    if (tasksAre === 'workspaces') return { id: workspaceId, workspaceId };
    await insertRow(database, { id: taskId, owner_id, organization_id, name, workspace_id: workspaceId }, init.deleted);
    await database('task_workspace_apps').insert({ task_id: taskId, workspace_build_number: 1 });
    return { id: taskId, workspaceId };
  };

  /** Writes a task that has no workspace yet. */
  const insertPendingTask = async (init: Pick<TaskInit, 'name' | 'ownerId' | 'organizationId'>): Promise<Buffer> => {
    const id = newId();
    const { organizationId: organization_id, ownerId: owner_id, name } = init;
    await insertRow(database, { id, owner_id, organization_id, name, workspace_id: null });
    return id;
  };

  const tokenOf = async (username: string) => (await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '';
  const callOf = async (token: string, as = authenticate): Promise<Call> =>
    testCall(await as((name) => (name === 'coder-session-token' ? token : undefined)));

  /** The ids of all tasks of a query. */
  const list = async (query: string, call: Call): Promise<string[]> =>
    (await listAllTasks(service, call, { query })).map(({ id }) => id);

  /** The id of a task that is got, or the error's code. */
  const get = (
    identifier: MessageInitShape<typeof GetTaskRequestSchema>['identifier'],
    call: Call,
  ): Promise<string | undefined> =>
    service.getTask(create(GetTaskRequestSchema, identifier === undefined ? {} : { identifier }), call).then(
      ({ task }) => task?.id,
      (error: unknown) => Code[ConnectError.from(error).code],
    );

  /**
   * What a query counts: in all, and the sum of its parts by phase. And of those that are failed, which all with a workspace are, how
   * many there were a day ago, how many there are, and how many CountTasks says.
   */
  const count = async (query: string, call: Call) => {
    const { total, phases, states } = await service.countTasks(create(CountTasksRequestSchema, { query }), call);
    const { points } = await service.countTasksOverTime(create(CountTasksOverTimeRequestSchema, { query }), call);
    return {
      counted: {
        total: total?.count,
        capped: total?.capped,
        byPhase: phases.reduce((sum, { count: some }) => sum + some, 0),
      },
      failed: {
        before: points.at(0)?.failed,
        now: points.at(-1)?.failed,
        counted: states.find(({ state }) => state === TaskState.FAILED)?.count,
      },
    };
  };

  /** The owners of readable tasks whose names begin like this. */
  const ownersToChooseFrom = async (prefix: string, call: Call): Promise<string[]> => {
    const request = create(ListQueryValuesRequestSchema, { key: QueryKey.OWNER, prefix });
    return (await service.listQueryValues(request, call)).values.map(({ value }) => value);
  };

  /** What an endpoint of Coder answers: the ids of a list, the id of a task, or the status that is no success. */
  const askJson = async (path: string, token: string): Promise<string[] | string | number> => {
    const response = await fetch(`http://${server.web}${path}`, { headers: { 'coder-session-token': token } });
    const body = (await response.json()) as { readonly id?: string; readonly tasks?: readonly { readonly id: string }[] };
    if (response.status !== 200) return response.status;
    return body.tasks?.map(({ id }) => id) ?? body.id ?? '';
  };

  return {
    database,
    keys,
    service,
    repository,
    settle,
    insertTask,
    insertPendingTask,
    tokenOf,
    callOf,
    list,
    get,
    count,
    ownersToChooseFrom,
    askJson,
    /** A watch of everyone's tasks: the ids that it was told of at first, and then as changed. */
    watch: (call: Call) => new Watched(watchTasks, call),
    home: await insertOrganization(database, 'home'),
    away: await insertOrganization(database, 'away'),
    /** Waits until the tasks are what they are to be. */
    async begin(ownerId: Buffer) {
      if (tasksAre === 'tasks') await insertPendingTask({ name: 'first', ownerId, organizationId: newId() });
      await settle();
      // As if it had been kept for days, in which these tasks did not exist.
      await database('projector_state').update({ transitions_since: rightsNow });
      expect(await readTaskSource(database)).toBe(tasksAre);
    },
    async close() {
      await feed.stop();
      await Promise.all([server.stop(), projector.stop()]);
      await testDatabase.drop();
    },
  };
}

/** `insert into tasks …` */
async function insertRow(database: Database, row: Readonly<Record<string, unknown>>, deleted = false): Promise<void> {
  await database('tasks').insert({
    ...row,
    display_name: 'A title',
    template_version_id: newId(),
    prompt: 'Do it',
    created_at: rightsNow,
    deleted_at: deleted ? rightsNow : null,
  } as never);
}

/** A watch that is followed. */
class Watched {
  readonly first = new Set<string>();
  readonly changed = new Set<string>();
  readonly removed = new Set<string>();
  synced = false;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;

  constructor(watchTasks: ReturnType<typeof createWatchTasks>, call: Call) {
    this.#ended = this.#run(watchTasks, { ...call, signal: this.#stop.signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async #run(watchTasks: ReturnType<typeof createWatchTasks>, call: Call): Promise<void> {
    const request = create(WatchTasksRequestSchema, { query: 'owner:*', includeInitial: true });
    try {
      for await (const { event } of watchTasks(request, call)) {
        if (event.case === 'synced') this.synced = true;
        else if (event.case === 'upserted') (this.synced ? this.changed : this.first).add(event.value.id);
        else if (event.case === 'removed') this.removed.add(event.value.id);
      }
    } catch (error) {
      if (!call.signal.aborted) throw error;
    }
  }
}

/** An id as an answer has it. */
export const idText = (task: WrittenTask): string => formatUuid(task.id);
