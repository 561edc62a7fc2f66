import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import mysql, { type RowDataPacket } from 'mysql2/promise';
import type { CapturedStatement } from './our-statements.ts';

// The floor: the most that Node can do. A bare HTTP/2 server runs the one SQL statement of ours by the driver alone, in the driver's
// fastest form, and sends a response of the same size as ours. It has no authentication, no checks, no log and no metrics.

/** The options of the floor: JSON in the environment variable FLOOR. */
export interface FloorOptions {
  readonly socketPath: string;
  readonly user: string;
  readonly database: string;
  readonly connections: number;
  /** The statements that our service sends for a GetTask and for a ListTasks. */
  readonly get: CapturedStatement;
  readonly list: CapturedStatement;
  /** The task that `get` was captured with, in hexadecimal. The task of a request is put in its place. */
  readonly taskId: string;
  /** The sizes of the answers, with the five bytes of the gRPC frame. */
  readonly getBytes: number;
  readonly listBytes: number;
}

const { get, list, taskId, getBytes, listBytes, connections, ...address } = JSON.parse(
  process.env['FLOOR'] ?? '',
) as FloorOptions;

const pool = mysql.createPool({
  ...address,
  connectionLimit: connections,
  dateStrings: true,
  rowsAsArray: true,
  charset: 'utf8mb4_bin',
});

/** The values of a statement, with a task's id in place of the one that it was captured with. */
function valuesOf({ values }: CapturedStatement, id: Buffer): (string | number | Buffer)[] {
  return values.map((value) => {
    if (typeof value !== 'object') return value;
    return value[0] === taskId ? id : Buffer.from(value[0], 'hex');
  });
}
const listValues = valuesOf(list, Buffer.alloc(0));

const answers = {
  '/tasks.v1.TasksService/GetTask': {
    sql: get.sql,
    bytes: frame(getBytes),
    // The id stands as text behind the frame's five bytes and the field's two.
    values: (request: Buffer) => valuesOf(get, Buffer.from(request.toString('latin1', 7, 43).replaceAll('-', ''), 'hex')),
  },
  '/tasks.v1.TasksService/ListTasks': { sql: list.sql, bytes: frame(listBytes), values: () => listValues },
} as const;

/** A gRPC frame of zeros with a total length. */
function frame(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32BE(length - 5, 1);
  return bytes;
}

async function answer(stream: ServerHttp2Stream, path: string, request: Buffer): Promise<void> {
  const { sql, bytes, values } = answers[path as keyof typeof answers];
  const [rows] = await pool.execute<RowDataPacket[]>(sql, values(request));
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': rows.length === 0 ? '5' : '0' }));
  stream.end(rows.length === 0 ? undefined : bytes);
}

const server = createServer();
server.on('stream', (stream, headers) => {
  let request: Buffer | undefined;
  stream.on('data', (chunk: Buffer) => {
    request = request === undefined ? chunk : Buffer.concat([request, chunk]);
  });
  stream.on('error', () => {}); // a client that hangs up
  stream.on('end', () => {
    answer(stream, headers[':path'] ?? '', request ?? Buffer.alloc(0)).catch((error: unknown) => {
      console.error(error);
      stream.close();
    });
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ msg: 'listening', grpc: `127.0.0.1:${(server.address() as AddressInfo).port}` }));
});
