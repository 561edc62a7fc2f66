import { Session } from 'node:inspector/promises';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { credentials, Metadata, makeGenericClientConstructor } from '@grpc/grpc-js';
import { readConfig } from '../../../src/config.ts';
import { GetTaskRequestSchema, ListTasksRequestSchema, ListTasksResponseSchema } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { serve } from '../../../src/serve.ts';

// Serves in this process, and says which files of src a call enters, whose caller and statement are known already: one line of JSON.

const { token, port, database } = JSON.parse(process.argv[2] ?? '') as { token: string; port: number; database: string };
const ports = { GRPC_PORT: String(port), WEB_PORT: '0', OPS_PORT: '0', HOST: '127.0.0.1' };
const settings = { ...ports, DATABASE_URL: database, PROJECTOR: 'false', AUTH_CACHE_SECONDS: '600' };
const served = serve(readConfig(settings), undefined);
const identity = (bytes: Buffer): Buffer => bytes;
const method = (name: string) => ({
  path: `/tasks.v1.TasksService/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});
const Client = makeGenericClientConstructor({ listTasks: method('ListTasks'), getTask: method('GetTask') }, 'tasks');
const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
const metadata = new Metadata();
metadata.set('coder-session-token', token);
const call = (name: 'listTasks' | 'getTask', request: Uint8Array): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    client[name]?.(Buffer.from(request), metadata, (error: Error | null, answer: Buffer) =>
      error === null ? resolve(answer) : reject(error),
    );
  });

await new Promise<void>((resolve, reject) => {
  client.waitForReady(Date.now() + 30_000, (error) => (error === undefined ? resolve() : reject(error)));
});
const list = toBinary(ListTasksRequestSchema, {
  $typeName: 'tasks.v1.ListTasksRequest',
  query: '',
  pageSize: 5,
  pageToken: '',
  orderBy: '',
  includeTotalSize: false,
  includeResumeToken: false,
});
const session = new Session();
session.connect();
await session.post('Profiler.enable');

async function filesOf(name: 'listTasks' | 'getTask', request: Uint8Array): Promise<string[]> {
  for (let i = 0; i < 3; i++) await call(name, request);
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  const entered: (readonly string[])[] = [];
  for (let i = 0; i < 3; i++) {
    await session.post('Profiler.takePreciseCoverage');
    await call(name, request);
    const { result } = await session.post('Profiler.takePreciseCoverage');
    const files = result
      .filter(({ functions }) => functions.some(({ ranges }) => (ranges[0]?.count ?? 0) > 0))
      .flatMap(({ url }) => /\/(src\/(?!gen\/).*\.ts)$/.exec(url)?.[1] ?? []);
    entered.push(files);
  }
  await session.post('Profiler.stopPreciseCoverage');
  // What runs by a clock, such as the checks of readiness, runs during one call and not during another.
  return (entered[0] ?? []).filter((file) => entered.every((files) => files.includes(file))).toSorted();
}

const first = fromBinary(ListTasksResponseSchema, await call('listTasks', list)).tasks[0];
const get = toBinary(GetTaskRequestSchema, {
  $typeName: 'tasks.v1.GetTaskRequest',
  identifier: { case: 'id', value: first?.id ?? '' },
});
console.log(`files ${JSON.stringify({ list: await filesOf('listTasks', list), get: await filesOf('getTask', get) })}`);
client.close();
process.kill(process.pid, 'SIGTERM');
await served;
