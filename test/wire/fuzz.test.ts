import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { hpack } from '../fuzz/cases.ts';
import { fuzz } from '../fuzz/fuzz.ts';
import { startTarget } from '../fuzz/target.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnServerKinds } from '../support/database.ts';
import { frame, preface } from '../support/http2-frames.ts';
import { signedIn, startTestServer, until } from '../support/test-server.ts';

/** How long it may take on an engine in a whole run, in milliseconds. `npm run fuzz` takes hours. */
const milliseconds = 10_000;

describeOnServerKinds('a service that is sent anything', (engine) => {
  test('bytes, frames, headers, messages and tokens of any kind get clean answers, and leave nothing behind', async () => {
    const seed = Math.floor(Math.random() * 2 ** 40);
    console.log(`fuzzing from seed ${seed}; again: npm run fuzz -- --seed ${seed}`);
    const testDatabase = await createTestDatabase(engine);
    const target = await startTarget(testDatabase.address);
    try {
      const { cases, answers } = await fuzz(target.service, target.known, { seed, milliseconds });
      console.log(`${cases} cases: ${[...answers].map(([what, times]) => `${times} x ${what}`).join(', ')}`);
      expect(cases).toBeGreaterThan(100);
      // It gets past the door: calls are answered, and refused for what they ask.
      expect([...answers.keys()]).toEqual(
        expect.arrayContaining(['gRPC OK', 'gRPC InvalidArgument', 'HTTP/2 200', 'HTTP/2 400', 'raw']),
      );
      expect(await target.stop()).toBe(0);
    } finally {
      await target.stop(); // if it is not yet
      await testDatabase.drop();
    }
  });
});

test.each(['grpc', 'web'] as const)(
  'a stream that is opened and reset in one packet harms nobody on the %s port',
  async (port) => {
    const server = await startTestServer();
    const { hostname, port: number } = new URL(`http://${server[port]}`);
    for (const [path, type] of [
      ['/tasks.v1.TasksService/ListTasks', 'text/plain'],
      ['/tasks.v1.TasksService/ListTasks', 'application/grpc'],
      ['/nowhere', 'application/grpc'],
    ] as const) {
      const headers = { ':method': 'POST', ':scheme': 'http', ':path': path, ':authority': 'x', 'content-type': type };
      const socket = connect(Number(number), hostname);
      socket.on('error', () => {});
      const open = frame(1, 4, 1, hpack(headers));
      const reset = frame(3, 0, 1, Buffer.from([0, 0, 0, 8]));
      // The answer to the ping says that what came before it has been read.
      socket.write(
        Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), open, reset, frame(6, 0, 0, Buffer.from('answerme'))]),
      );
      let got = '';
      socket.on('data', (chunk: Buffer) => {
        got += chunk.toString('latin1');
      });
      await until('answer to the ping', () => got.includes('answerme'));
      socket.destroy();
    }
    const client = makeGrpcClient(server[port]);
    await client.unary(TasksService.method.listTasks, {}, { headers: signedIn });
    client.close();
    await server.stop();
  },
);

// Node says nothing of the second frame, and would keep the connection and its call for ever.
test.each(['grpc', 'web'] as const)(
  'a client that says it leaves, and breaks the protocol then, is cut off on the %s port',
  async (port) => {
    const server = await startTestServer();
    const { hostname, port: number } = new URL(`http://${server[port]}`);
    const headers = {
      ':method': 'POST',
      ':scheme': 'http',
      ':path': '/tasks.v1.TasksService/GetTask',
      ':authority': 'x',
      'content-type': 'application/grpc',
      ...signedIn,
    };
    const socket = connect(Number(number), hostname);
    socket.on('error', () => {});
    socket.resume();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const goaway = frame(7, 0, 0, Buffer.alloc(8));
    const continuation = frame(9, 0, 7, Buffer.from('of nothing'));
    socket.write(Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), frame(1, 4, 1, hpack(headers)), goaway, continuation]));
    await closed;
    await until('end of its call', async () => {
      const metrics = await (await fetch(`http://${server.ops}/metrics`)).text();
      return /^tasks_calls_in_flight 0$/m.test(metrics);
    });
    expect(server.log.map(({ code }) => code)).toEqual(['CANCELLED']);
    await server.stop();
  },
);
