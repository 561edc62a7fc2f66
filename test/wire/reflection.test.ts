import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:http2';
import path from 'node:path';
import { promisify } from 'node:util';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../../src/gen/grpc/reflection/v1/reflection_pb.ts';
import { ServerReflection as AlphaServerReflection } from '../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { goodToken, startTestServer, type TestServer } from '../support/test-server.ts';

const run = promisify(execFile);
const buf = path.resolve('node_modules/.bin/buf');
const methods = {
  v1: ServerReflection.method.serverReflectionInfo,
  // The same under another name, which is what is tested: one type will do for both.
  v1alpha: AlphaServerReflection.method.serverReflectionInfo as unknown as typeof ServerReflection.method.serverReflectionInfo,
};

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(async () => {
  await server.stop();
});

const services = [
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
  'tasks.v1.TasksService',
];

describe.each(['v1', 'v1alpha'] as const)('%s', (version) => {
  describe.each(['grpc', 'web'] as const)('on the port %s', (port) => {
    let client: GrpcClient;
    beforeAll(() => {
      client = makeGrpcClient(server[port]);
    });
    afterAll(() => client.close());

    type Asked = ServerReflectionRequest['messageRequest'];
    type Told = ServerReflectionResponse['messageResponse'];

    async function ask(...asked: Asked[]): Promise<Told[]> {
      const told: Told[] = [];
      const requests = asked.map((messageRequest) => ({ host: 'example', messageRequest }));
      for await (const response of client.bidiStream(methods[version], requests)) {
        expect(response.validHost).toBe('example');
        expect(response.originalRequest?.messageRequest).toEqual(asked[told.length]);
        told.push(response.messageResponse);
      }
      return told;
    }

    function filesIn(told: Told | undefined): string[] {
      if (told?.case !== 'fileDescriptorResponse') throw new Error(`told ${JSON.stringify(told)}`);
      return told.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
    }

    test('lists the services', async () => {
      const [told] = await ask({ case: 'listServices', value: '*' });
      if (told?.case !== 'listServicesResponse') throw new Error(`told ${JSON.stringify(told)}`);
      expect(told.value.service.map(({ name }) => name).sort()).toEqual(services);
    });

    const tasks = ['tasks/v1/tasks.proto', 'google/protobuf/timestamp.proto'];
    const details = ['google/rpc/error_details.proto', 'google/protobuf/duration.proto'];
    test.each<[string, string[]]>([
      ['tasks.v1.TasksService', tasks],
      ['tasks.v1.TasksService.ListTasks', tasks],
      ['tasks.v1.Task', tasks],
      ['tasks.v1.Task.initial_prompt', tasks],
      ['tasks.v1.GetTaskRequest.identifier', tasks],
      ['tasks.v1.WorkspaceStatus', tasks],
      ['tasks.v1.WORKSPACE_STATUS_RUNNING', tasks],
      ['google.protobuf.Timestamp', ['google/protobuf/timestamp.proto']],
      ['google.rpc.ErrorInfo', details],
      ['google.rpc.BadRequest.FieldViolation', details],
      ['google.rpc.BadRequest.FieldViolation.field', details],
      ['grpc.health.v1.HealthCheckResponse.ServingStatus', ['grpc/health/v1/health.proto']],
      ['grpc.health.v1.HealthCheckResponse.SERVING', ['grpc/health/v1/health.proto']],
      ['grpc.reflection.v1.ServerReflection', ['grpc/reflection/v1/reflection.proto']],
    ])('the file of %s comes with all it imports', async (symbol, files) => {
      const [told] = await ask({ case: 'fileContainingSymbol', value: symbol });
      expect(filesIn(told)).toEqual(files);
    });

    test('files by name, each on the same stream', async () => {
      const told = await ask(
        { case: 'fileByFilename', value: 'tasks/v1/tasks.proto' },
        { case: 'fileByFilename', value: 'google/protobuf/timestamp.proto' },
      );
      expect(told.map(filesIn)).toEqual([tasks, ['google/protobuf/timestamp.proto']]);
    });

    test('no message of ours has extensions', async () => {
      const [none, unknown] = await ask(
        { case: 'allExtensionNumbersOfType', value: 'tasks.v1.Task' },
        { case: 'allExtensionNumbersOfType', value: 'tasks.v1.NoSuch' },
      );
      expect(none).toMatchObject({
        case: 'allExtensionNumbersResponse',
        value: { baseTypeName: 'tasks.v1.Task', extensionNumber: [] },
      });
      expect(unknown).toMatchObject({ case: 'errorResponse', value: { errorCode: Code.NotFound } });
    });

    test.each<Asked>([
      { case: 'fileByFilename', value: 'tasks/v1/tasks' },
      { case: 'fileByFilename', value: '' },
      { case: 'fileContainingSymbol', value: 'tasks.v1.NoSuch' },
      { case: 'fileContainingSymbol', value: '.tasks.v1.Task' },
      {
        case: 'fileContainingExtension',
        value: { $typeName: 'grpc.reflection.v1.ExtensionRequest', containingType: 'tasks.v1.Task', extensionNumber: 5 },
      },
    ])('%j is not found, and the stream goes on', async (asked) => {
      // The type name differs with the version.
      const request = JSON.parse(JSON.stringify(asked).replace('reflection.v1.', `reflection.${version}.`)) as Asked;
      const [told, next] = await ask(request, { case: 'listServices', value: '' });
      expect(told).toMatchObject({ case: 'errorResponse', value: { errorCode: Code.NotFound } });
      expect(next?.case).toBe('listServicesResponse');
    });

    test('nothing asked is a bad request, and the stream goes on', async () => {
      const [told] = await ask({ case: undefined });
      expect(told).toMatchObject({ case: 'errorResponse', value: { errorCode: Code.InvalidArgument } });
    });
  });
});

describe('buf curl', () => {
  test.each(['grpc', 'web'] as const)('lists and calls on the port %s without our files', async (port) => {
    const args = ['curl', '--http2-prior-knowledge', '--protocol', 'grpc'];
    const listed = await run(buf, [...args, '--list-methods', `http://${server[port]}`]);
    expect(listed.stdout.trim().split('\n')).toEqual(
      expect.arrayContaining(['tasks.v1.TasksService/ListTasks', 'grpc.health.v1.Health/Watch']),
    );
    const url = `http://${server[port]}/tasks.v1.TasksService/ListTasks`;
    const called = await run(buf, [...args, '-H', `coder-session-token: ${goodToken}`, '-d', '{"pageSize":5}', url]);
    expect(JSON.parse(called.stdout)).toMatchObject({ count: 5 });
  });
});

const hasGrpcurl = spawnSync('grpcurl', ['-version']).status === 0;

describe.runIf(hasGrpcurl || process.env['GRPCURL_REQUIRED'] === '1')('grpcurl', () => {
  test('lists, describes, calls, and shows the details of an error', async () => {
    const grpcurl = (...args: string[]) => run('grpcurl', ['-plaintext', ...args]);
    expect((await grpcurl(server.grpc, 'list')).stdout.trim().split('\n')).toEqual(services);
    expect((await grpcurl(server.grpc, 'describe', 'tasks.v1.Task')).stdout).toContain('initial_prompt');
    const called = await grpcurl(
      '-H',
      `coder-session-token: ${goodToken}`,
      '-d',
      '{"page_size":5}',
      server.grpc,
      'tasks.v1.TasksService/ListTasks',
    );
    expect(JSON.parse(called.stdout)).toMatchObject({ count: 5 });
    const refused = await grpcurl(server.grpc, 'tasks.v1.TasksService/ListTasks').catch((error: unknown) => error);
    expect((refused as { stderr: string }).stderr).toContain('"reason": "UNAUTHENTICATED"');
  });
});

test('reflection that is off is no method', async () => {
  const closed = await startTestServer({ reflection: { grpc: false, web: false } });
  for (const port of ['grpc', 'web'] as const) {
    const client = makeGrpcClient(closed[port]);
    const asking = async () => {
      for await (const _ of client.bidiStream(methods.v1, [{ messageRequest: { case: 'listServices', value: '' } }]));
    };
    const error = await asking().catch((reason: unknown) => reason);
    expect(error instanceof ConnectError ? Code[error.code] : error).toBe('Unimplemented');
    client.close();
  }
  await closed.stop();
});

test('reflection bytes that are no protobuf are INVALID_ARGUMENT', async () => {
  for (const port of ['grpc', 'web'] as const) {
    const response = await fetchGrpc(
      server[port],
      '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
      Buffer.from([0, 0, 0, 0, 1, 8]),
    );
    expect(response['grpc-status']).toBe('3');
  }
});

async function fetchGrpc(address: string, method: string, body: Uint8Array): Promise<Record<string, unknown>> {
  const session = connect(`http://${address}`);
  const stream = session.request({ ':method': 'POST', ':path': method, 'content-type': 'application/grpc', te: 'trailers' });
  const answer: Record<string, unknown> = {};
  stream.on('response', (headers) => void Object.assign(answer, headers));
  stream.on('trailers', (headers) => void Object.assign(answer, headers));
  stream.end(body);
  stream.resume();
  await once(stream, 'close');
  session.destroy();
  return answer;
}
