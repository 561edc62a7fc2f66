import { create } from '@bufbuild/protobuf';
import { createApiKeyRepository } from '../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../src/auth/authenticate.ts';
import type { Call } from '../src/call/call.ts';
import { closeDatabase, openDatabase } from '../src/db/connection.ts';
import { GetTaskRequestSchema, ListTasksRequestSchema } from '../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../src/platform/log.ts';
import { createPageTokens } from '../src/tasks/page-token.ts';
import { createResolveQuery } from '../src/tasks/resolve-query.ts';
import { createNameLookup } from '../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../src/tasks/store/task-repository.ts';
import { createTasksService } from '../test/support/tasks-service.ts';
import type { DataSet, Person } from './data.ts';

/** A statement with its values. Bytes are written in hexadecimal, in an array, so that they can be told from texts. */
export interface CapturedStatement {
  readonly sql: string;
  readonly values: readonly (string | number | readonly [hex: string])[];
}

/** Captures the statements that the service sends for a GetTask and for a ListTasks of a caller who is remembered. */
export async function ourStatements(
  { address, tokens }: DataSet,
  person: Person,
  taskId: string,
): Promise<{ readonly get: CapturedStatement; readonly list: CapturedStatement }> {
  const sent: CapturedStatement[] = [];
  const database = openDatabase(address, {
    size: 1,
    statementTimeoutMs: 10_000,
    onStatement: ({ sql, values }) =>
      sent.push({
        sql,
        values: values.map((value) => (Buffer.isBuffer(value) ? ([value.toString('hex')] as const) : (value as string | number))),
      }),
  });
  try {
    const authenticate = createAuthenticate(createApiKeyRepository(database), 60);
    const caller = await authenticate((name) => (name === 'coder-session-token' ? tokens[person] : undefined));
    const { signal } = new AbortController();
    const call: Call = {
      requestId: 'bench',
      caller,
      signal,
      draining: signal,
      reauthenticate: () => Promise.resolve(caller),
      log: createLog('silent'),
    };
    const service = createTasksService({
      tasks: createTaskRepository(database, 30),
      resolveQuery: createResolveQuery(createNameLookup(database, 60)),
      pageTokens: createPageTokens([Buffer.alloc(32)]),
    });
    sent.length = 0;
    await service.getTask(create(GetTaskRequestSchema, { identifier: { case: 'id', value: taskId } }), call);
    await service.listTasks(create(ListTasksRequestSchema), call);
    const [get, list, ...more] = sent;
    if (get === undefined || list === undefined || more.length > 0) throw new Error(`${sent.length} statements for two calls`);
    return { get, list };
  } finally {
    await closeDatabase(database);
  }
}
