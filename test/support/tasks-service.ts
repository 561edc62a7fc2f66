import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { Call } from '../../src/call/call.ts';
import type { Database } from '../../src/db/connection.ts';
import { ListTasksRequestSchema, type Task } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type CountTasks, createCountTasks } from '../../src/tasks/count-tasks.ts';
import { type CountTasksOverTime, createCountTasksOverTime } from '../../src/tasks/count-tasks-over-time.ts';
import { createGetTask } from '../../src/tasks/get-task.ts';
import { createListQueryValues, type ListQueryValues } from '../../src/tasks/list-query-values.ts';
import { createListTasks, type ListTasksParts } from '../../src/tasks/list-tasks.ts';
import { createPageTokens } from '../../src/tasks/page-token.ts';
import { createResolveQuery } from '../../src/tasks/resolve-query.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createTaskMessages, type TaskMessages } from '../../src/tasks/task-messages.ts';

/** ListTasks, CountTasks, CountTasksOverTime, ListQueryValues and GetTask without a transport, their responses as messages. */
export interface TestTasksService extends TaskMessages {
  readonly countTasks: CountTasks;
  readonly countTasksOverTime: CountTasksOverTime;
  readonly listQueryValues: ListQueryValues;
}

/** What may differ from test to test. */
interface TestServiceOptions {
  /** After this silence an agent counts as disconnected, in seconds: 30 by default. */
  readonly agentInactiveSeconds?: number;
  /** How long names are kept, in seconds: 60 by default. */
  readonly cacheSeconds?: number;
  readonly pageTokenKey?: Buffer;
  readonly clock?: () => number;
}

/** Makes one on a database. */
export function createTasksService(
  database: Database,
  { agentInactiveSeconds = 30, cacheSeconds = 60, pageTokenKey = Buffer.alloc(32), ...clock }: TestServiceOptions = {},
): TestTasksService {
  return tasksServiceOf({
    tasks: createTaskRepository(database, agentInactiveSeconds),
    resolveQuery: createResolveQuery(createNameLookup(database, cacheSeconds)),
    pageTokens: createPageTokens([pageTokenKey]),
    ...clock,
  });
}

/** Makes one of its parts. */
export function tasksServiceOf(parts: ListTasksParts & { readonly clock?: () => number }): TestTasksService {
  return {
    ...createTaskMessages(createListTasks(parts), createGetTask(parts)),
    countTasks: createCountTasks(parts),
    countTasksOverTime: createCountTasksOverTime(parts),
    listQueryValues: createListQueryValues(parts),
  };
}

/** The tasks of all pages of a list. */
export async function listAllTasks(
  service: TaskMessages,
  call: Call,
  request: MessageInitShape<typeof ListTasksRequestSchema>,
): Promise<Task[]> {
  const tasks: Task[] = [];
  let pageToken = '';
  do {
    const page = await service.listTasks(create(ListTasksRequestSchema, { ...request, pageToken, pageSize: 200 }), call);
    tasks.push(...page.tasks);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return tasks;
}
