import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import mysql from 'mysql2/promise';

// The floor: the most that Node can do. A bare HTTP/2 server runs the one SQL statement by the driver alone, in the driver's
// fastest form, and sends a response of the same size as ours. It knows nobody, checks nothing, writes no log and counts nothing.

/** What the benchmark tells the floor, in the environment variable FLOOR. */
export interface FloorOptions {
  readonly socketPath: string;
  readonly user: string;
  readonly database: string;
  readonly connections: number;
  /** Whose tasks are listed, in hexadecimal. */
  readonly owner: string;
  /** The sizes of the answers, with the five bytes that frame them. */
  readonly getBytes: number;
  readonly listBytes: number;
}

const { owner, getBytes, listBytes, connections, ...address } = JSON.parse(process.env['FLOOR'] ?? '') as FloorOptions;

const columns = `t.id, t.owner_id, t.organization_id, t.template_id, t.template_version_id, t.build_number, t.agent_id,
  t.agent_lifecycle, t.app_id, t.name, t.display_name, t.prompt, t.status, t.phase, t.state, t.state_at, t.state_message,
  t.state_uri, t.favorite, t.own_key, t.dormant_at, t.created_at, t.updated_at, u.username, u.avatar_url, o.name, m.name,
  m.display_name, m.icon, w.last_used_at,
  case when a.id is null then null
    when a.first_connected_at is null then if(a.connection_timeout_seconds > 0
      and timestampdiff(microsecond, a.created_at, utc_timestamp(6)) > a.connection_timeout_seconds * 1000000, 'timeout', 'connecting')
    when a.disconnected_at > a.last_connected_at then 'disconnected'
    when timestampdiff(microsecond, a.last_connected_at, utc_timestamp(6)) > 30000000 then 'disconnected'
    else 'connected' end`;
const names = `left join users u on u.id = t.owner_id left join organizations o on o.id = t.organization_id
  left join templates m on m.id = t.template_id left join workspaces w on w.id = t.id left join workspace_agents a on a.id = t.agent_id`;
const getSql = `select ${columns} from workspace_tasks t ${names} where t.id = ?`;
const listSql = `select ${columns} from workspace_tasks t force index (own_key) ${names}
  where t.owner_id = ? and t.live = 1 order by t.own_key limit 26`;

const pool = mysql.createPool({
  ...address,
  connectionLimit: connections,
  dateStrings: true,
  rowsAsArray: true,
  charset: 'utf8mb4_bin',
});
const ownerId = Buffer.from(owner, 'hex');

const answers = {
  '/tasks.v1.TasksService/GetTask': {
    sql: getSql,
    bytes: frame(getBytes),
    // Behind the frame's five bytes and the field's two stands the id as text.
    value: (request: Buffer) => Buffer.from(request.toString('latin1', 7, 43).replaceAll('-', ''), 'hex'),
  },
  '/tasks.v1.TasksService/ListTasks': { sql: listSql, bytes: frame(listBytes), value: () => ownerId },
} as const;

/** A gRPC frame of so many bytes in all. */
function frame(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32BE(length - 5, 1);
  return bytes;
}

async function answer(stream: ServerHttp2Stream, path: string, request: Buffer): Promise<void> {
  const { sql, bytes, value } = answers[path as keyof typeof answers];
  const [rows] = (await pool.execute(sql, [value(request)])) as unknown as [unknown[][]];
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
