import { create } from '@bufbuild/protobuf';
import { createApiKeyRepository } from '../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../src/auth/authenticate.ts';
import { closeDatabase, openDatabase } from '../src/db/connection.ts';
import { GetTaskRequestSchema, ListTasksRequestSchema } from '../src/gen/tasks/v1/tasks_pb.ts';
import { createTasksService } from '../test/support/tasks-service.ts';
import { testCall } from '../test/support/test-call.ts';
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
    const call = testCall(caller);
    const service = createTasksService(database);
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
