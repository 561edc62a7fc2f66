import { create, toBinary, toJsonString } from '@bufbuild/protobuf';
import { seededRandom } from '../../dev/demo/seeded-random.ts';
import {
  CountTasksOverTimeRequestSchema,
  CountTasksRequestSchema,
  GetTaskRequestSchema,
  ListQueryValuesRequestSchema,
  ListTasksRequestSchema,
  type QueryKey,
  WatchTasksRequestSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { frame, preface } from '../support/http2-frames.ts';

/** A port of the service. */
export type Port = 'grpc' | 'web' | 'ops';

/** Bytes for a port, as they are, in one or several writes. */
export interface RawCase {
  readonly kind: 'raw';
  readonly port: Port;
  readonly writes: readonly Buffer[];
}

/** A request in good HTTP/2. What is in it may be anything. */
export interface RequestCase {
  readonly kind: 'request';
  readonly port: 'grpc' | 'web';
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Whether the path and the content type are right, so that an answer must be the service's own. */
  readonly ours: boolean;
}

/** What a test sends to the service. */
export type Case = RawCase | RequestCase;

/** What the cases may know: tokens that are good, and what a client could have at hand. */
export interface Knowledge {
  readonly sessionToken: string;
  readonly jwt: string;
  readonly pageToken: string;
  readonly taskId: string;
}

/** Makes a case. The same seed makes the same one. */
export function makeCase(seed: number, known: Knowledge): Case {
  const random = new Chance(seed);
  return random.pick([randomBytes, http1, http2, request, request, request])(random, known);
}

/** Choices that follow from a seed. */
class Chance {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed | 0, Math.floor(seed / 2 ** 32) | 0);
  }

  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  /** True once in so many times. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly [T, ...T[]] | readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  bytes(most: number): Buffer {
    return Buffer.from(Array.from({ length: this.below(most + 1) }, () => this.below(256)));
  }

  /** So many things, or fewer. */
  several<T>(most: number, make: () => T): T[] {
    return Array.from({ length: this.below(most + 1) }, make);
  }

  /** Bytes with some of them changed, doubled, left out, put in or cut off. */
  mutate(bytes: Buffer, times: number): Buffer {
    let changed = Buffer.from(bytes);
    for (let time = 0; time < times; time += 1) {
      const at = this.below(changed.length + 1);
      const end = Math.min(changed.length, at + this.below(16));
      switch (this.below(6)) {
        case 0:
          if (at < changed.length) changed[at] = this.below(256);
          break;
        case 1:
          if (at < changed.length) changed[at] = (changed[at] ?? 0) ^ (1 << this.below(8));
          break;
        case 2:
          changed = Buffer.concat([changed.subarray(0, at), this.bytes(8), changed.subarray(at)]);
          break;
        case 3:
          changed = Buffer.concat([changed.subarray(0, at), changed.subarray(end)]);
          break;
        case 4:
          changed = Buffer.concat([changed.subarray(0, end), changed.subarray(at)]);
          break;
        default:
          changed = changed.subarray(0, at);
      }
    }
    return changed;
  }

  /** A text such as people, programs and attackers send. */
  text(): string {
    switch (this.below(8)) {
      case 0:
        return '';
      case 1:
        return this.pick(oddTexts);
      case 2:
        return this.pick(oddTexts).repeat(this.below(200));
      case 3:
        return this.bytes(40).toString('utf8');
      case 4:
        return String.fromCharCode(...this.several(30, () => this.below(65_536)));
      default:
        return this.several(4, () => this.term()).join(this.pick([' ', '  ', '\t', ',']));
    }
  }

  /** A term of a query, more or less. */
  term(): string {
    const value = this.oneIn(3) ? this.text() : this.pick(values);
    return `${this.pick(keys)}${this.oneIn(9) ? this.pick(['::', '', ' :', ':"', '="']) : ':'}${this.oneIn(5) ? `"${value}"` : value}`;
  }

  /** A whole number, of those at which something ends more often. */
  int32(): number {
    return this.pick([0, 1, 2, 25, 200, 201, -1, 2 ** 31 - 1, -(2 ** 31), this.below(2 ** 31)]);
  }
}

const oddTexts = [
  ...[
    "'",
    '"',
    '\\',
    '`',
    '%',
    '_',
    ';',
    '--',
    '/*',
    '\0',
    '\n',
    '\r\n',
    ':',
    ',',
    '${x}',
    '{{',
    '../',
    '\ud800',
    '\udc00\ud800',
  ],
  ...[
    'a',
    'é',
    'İ',
    'ß',
    '\u202e',
    '\ufeff',
    '👩‍👩‍👧',
    "' or 1=1 -- ",
    '") union select 1 -- ',
    'null',
    'undefined',
    '__proto__',
    'NaN',
    '1e999',
  ],
  ...['me', '*', 'owner:*', 'admin/x', '0000000000', '-1', '9'.repeat(40), 'true', '[]', '{}', '%00', '%zz', '=?utf-8?'],
] as const;
const keys = [
  ...[
    'owner',
    'name',
    'status',
    'phase',
    'state',
    'waiting',
    'organization',
    'template',
    'has-agent',
    'healthy',
    'dormant',
    'outdated',
  ],
  ...[
    'has_external_agent',
    'has-ai-task',
    'shared',
    'shared_with_user',
    'shared_with_group',
    'param',
    'prompt',
    'id',
    'created_after',
  ],
  ...['created_before', 'last_used_after', 'last_used_before', 'Owner', 'unknown', '', 'constructor'],
] as const;
const values = [
  ...[
    '*',
    'me',
    'admin',
    'developer',
    'running',
    'stopped,running',
    'active',
    'idle',
    'true',
    'false',
    'atlas',
    'x=y',
    'x',
    'connected',
  ],
  ...[
    '2026-11-23',
    '2026-11-23T10:00:00Z',
    '0000-00-00',
    '9999-12-31T23:59:59.999999999Z',
    '00000000-0000-0000-0000-000000000000',
  ],
] as const;

function randomBytes(random: Chance): RawCase {
  const start = random.pick([Buffer.alloc(0), preface, Buffer.from('GET / HTTP/1.1\r\n'), Buffer.from('160301', 'hex')]);
  return {
    kind: 'raw',
    port: random.pick(['grpc', 'web', 'ops']),
    writes: [start, ...random.several(4, () => random.bytes(300))],
  };
}

const service = '/tasks.v1.TasksService';
const paths = [
  ...['ListTasks', 'CountTasks', 'CountTasksOverTime', 'ListQueryValues', 'GetTask', 'WatchTasks'].map(
    (method) => `${service}/${method}`,
  ),
  ...[
    '/grpc.health.v1.Health/Check',
    '/grpc.health.v1.Health/Watch',
    '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
  ],
  ...[
    '/api/experimental/tasks',
    '/api/experimental/tasks/me',
    '/api/v2/tasks',
    '/api/v2/tasks/me/x',
    '/',
    '/readyz',
    '/metrics',
    '/tasks/x',
    '/assets/',
    '/nowhere',
    '*',
    '',
  ],
] as const;

function http1(random: Chance, known: Knowledge): RawCase {
  const port = random.pick(['web', 'web', 'web', 'ops', 'grpc'] as const);
  const body = random.oneIn(2) ? jsonBody(random, known, random.pick(methods)) : random.bytes(100);
  const path = random.pick(paths);
  const search = new URLSearchParams({
    q: random.text(),
    limit: String(random.int32()),
    message: random.text(),
    encoding: 'json',
    base64: '1',
    connect: 'v1',
  });
  const lines = [
    `${random.pick(['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'get', 'PRI', 'CONNECT'])} ${path}${random.oneIn(2) ? `?${search.toString()}` : ''} HTTP/1.1`,
    'host: localhost',
    `coder-session-token: ${known.sessionToken}`,
    `content-type: ${random.pick(contentTypes)}`,
    random.oneIn(3) ? 'transfer-encoding: chunked' : `content-length: ${random.oneIn(9) ? random.int32() : body.length}`,
    ...Object.entries(oddHeaders(random, known)).map(([name, value]) => `${name}: ${value}`),
  ];
  const whole = Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), body]);
  const bytes = random.mutate(whole, random.below(4));
  const cut = random.below(bytes.length + 1);
  return { kind: 'raw', port, writes: random.oneIn(2) ? [bytes] : [bytes.subarray(0, cut), bytes.subarray(cut)] };
}

/** Headers in HPACK, as literals that nobody remembers (RFC 7541, 6.2.2). */
export function hpack(headers: Readonly<Record<string, string>>): Buffer {
  const literal = (text: string): Buffer => {
    const bytes = Buffer.from(text.slice(0, 120), 'latin1');
    return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  };
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));
}

/** A connection of HTTP/2: a call or two in frames, with other frames between them, and some of all that changed. */
function http2(random: Chance, known: Knowledge): RawCase {
  const frames = [frame(4, 0, 0, Buffer.alloc(0))];
  for (const stream of [1, 3, 5].slice(0, 1 + random.below(3))) {
    const headers = {
      ':method': 'POST',
      ':scheme': 'http',
      ':path': random.pick(paths.slice(0, 6)),
      ':authority': 'localhost',
      te: 'trailers',
      'content-type': random.pick(contentTypes),
      'coder-session-token': known.sessionToken,
      ...(random.oneIn(3) ? oddHeaders(random, known) : {}),
    };
    const message = random.mutate(protobufBody(random, known, random.pick(methods)), random.below(2));
    frames.push(frame(1, random.oneIn(9) ? random.below(256) : 4, stream, hpack(headers)));
    frames.push(frame(0, random.oneIn(9) ? random.below(256) : 1, stream, envelope(random, message)));
    for (const odd of random.several(3, () => oddFrame(random, stream))) frames.splice(random.below(frames.length + 1), 0, odd);
  }
  const bytes = random.mutate(Buffer.concat(frames), random.oneIn(2) ? 0 : 1 + random.below(3));
  return { kind: 'raw', port: random.pick(['grpc', 'web']), writes: [preface, bytes] };
}

function oddFrame(random: Chance, stream: number): Buffer {
  const type = random.oneIn(4) ? random.below(256) : random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const sizes: Readonly<Record<number, number>> = { 2: 5, 3: 4, 6: 8, 7: 8, 8: 4 };
  const payload = random.oneIn(3)
    ? random.bytes(40)
    : Buffer.concat([random.bytes(12), Buffer.alloc(12)]).subarray(0, sizes[type] ?? 12);
  return frame(
    type,
    random.below(256),
    random.pick([0, stream, stream + 2, 2, 2 ** 31 - 1, 2 ** 32 - 1]),
    payload,
    random.oneIn(9) ? random.below(2 ** 24) : payload.length,
  );
}

const contentTypes = [
  ...[
    'application/grpc',
    'application/grpc+proto',
    'application/grpc-web',
    'application/grpc-web+proto',
    'application/grpc-web-text',
  ],
  ...[
    'application/json',
    'application/proto',
    'application/connect+json',
    'application/connect+proto',
    'text/plain',
    '',
    'application/grpc+json',
  ],
] as const;

/** A message in an envelope of gRPC, whose flags and length may be wrong. */
function envelope(random: Chance, message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(random.oneIn(9) ? random.below(256) : 0, 0);
  head.writeUInt32BE(random.oneIn(9) ? random.below(2 ** 32) : message.length, 1);
  return Buffer.concat([head, message]);
}

const methods = ['ListTasks', 'CountTasks', 'CountTasksOverTime', 'ListQueryValues', 'GetTask', 'WatchTasks'] as const;
type Method = (typeof methods)[number];

function makeRequest(random: Chance, known: Knowledge, method: Method) {
  const token = random
    .pick(['', known.pageToken, random.mutate(Buffer.from(known.pageToken), 1).toString('latin1'), random.text()])
    .toWellFormed();
  const query = random.text().toWellFormed();
  switch (method) {
    case 'ListTasks': {
      const orderBy = random
        .pick(['', 'created_at', 'current_state.timestamp desc', 'name', 'name desc', random.text()])
        .toWellFormed();
      const message = create(ListTasksRequestSchema, {
        query,
        orderBy,
        pageToken: token,
        pageSize: random.int32(),
        includeTotalSize: random.oneIn(2),
      });
      return { desc: ListTasksRequestSchema, message };
    }
    case 'CountTasks':
      return { desc: CountTasksRequestSchema, message: create(CountTasksRequestSchema, { query }) };
    case 'CountTasksOverTime':
      return { desc: CountTasksOverTimeRequestSchema, message: create(CountTasksOverTimeRequestSchema, { query }) };
    case 'ListQueryValues':
      return {
        desc: ListQueryValuesRequestSchema,
        message: create(ListQueryValuesRequestSchema, {
          key: random.pick([0, 1, 2, 3, random.int32()]) as QueryKey,
          prefix: query,
        }),
      };
    case 'WatchTasks':
      return {
        desc: WatchTasksRequestSchema,
        message: create(WatchTasksRequestSchema, { query, resumeToken: token, includeInitial: random.oneIn(2) }),
      };
    case 'GetTask': {
      const id = { case: 'id', value: random.pick([known.taskId, random.text().toWellFormed()]) } as const;
      const name = {
        case: 'name',
        value: { owner: random.pick(['me', 'admin', random.text().toWellFormed()]), name: random.text().toWellFormed() },
      } as const;
      return { desc: GetTaskRequestSchema, message: create(GetTaskRequestSchema, { identifier: random.oneIn(2) ? id : name }) };
    }
  }
}

function protobufBody(random: Chance, known: Knowledge, method: Method): Buffer {
  if (random.oneIn(5)) return random.bytes(80);
  const { desc, message } = makeRequest(random, known, method);
  return random.mutate(Buffer.from(toBinary(desc as never, message as never)), random.oneIn(2) ? 0 : 1 + random.below(3));
}

function jsonBody(random: Chance, known: Knowledge, method: Method): Buffer {
  switch (random.below(5)) {
    case 0:
      return Buffer.from(JSON.stringify(oddJson(random, 4)) ?? '');
    case 1:
      return Buffer.from(
        random.pick(['[', '{"a":', '{"query":"', '"', '\\u', '-', '1e', '\ufeff{}']).repeat(1 + random.below(2000)),
      );
    default: {
      const { desc, message } = makeRequest(random, known, method);
      return random.mutate(Buffer.from(toJsonString(desc as never, message as never)), random.oneIn(2) ? 0 : 1 + random.below(3));
    }
  }
}

function oddJson(random: Chance, depth: number): unknown {
  if (depth === 0 || random.oneIn(3)) return random.pick<unknown>([null, true, random.text(), random.int32(), 1e300, 0.5, '']);
  if (random.oneIn(3)) return random.several(4, () => oddJson(random, depth - 1));
  const names = [
    'query',
    'pageSize',
    'page_size',
    'pageToken',
    'orderBy',
    'id',
    'name',
    'owner',
    '__proto__',
    'resumeToken',
    random.text(),
  ];
  return Object.fromEntries(random.several(5, () => [random.pick(names), oddJson(random, depth - 1)] as const));
}

/** Headers that clients send, with what none would put into them. */
function oddHeaders(random: Chance, known: Knowledge): Record<string, string> {
  const printable = (text: string): string => text.replaceAll(/[^\x20-\x7e\x80-\xff]/g, '').trim();
  const value = (): string =>
    printable(
      random.pick([
        random.text(),
        String(random.int32()),
        random.mutate(Buffer.from(known.sessionToken), 1).toString('latin1'),
        'a.b.c',
        'x'.repeat(random.below(9000)),
      ]),
    );
  const names = [
    ...[
      'grpc-timeout',
      'grpc-encoding',
      'grpc-accept-encoding',
      'content-encoding',
      'accept-encoding',
      'connect-protocol-version',
    ],
    ...[
      'connect-timeout-ms',
      'connect-content-encoding',
      'x-request-id',
      'traceparent',
      'tracestate',
      'coder-session-token',
      'authorization',
    ],
    ...[
      'cookie',
      'if-none-match',
      'origin',
      'sec-fetch-site',
      'x-grpc-web',
      'user-agent',
      'expect',
      'range',
      'accept',
      'x-bin',
      'grpc-trace-bin',
    ],
    ...['x-coder-bypass-ratelimit', 'x-forwarded-for', 'access-control-request-method'],
  ];
  const sane: Readonly<Record<string, string>> = {
    'grpc-timeout': random.pick(['1n', '100m', '99999999H', '1S', '0m', '-1S']),
    'connect-timeout-ms': random.pick(['1', '10000', '99999999999', '0']),
    'grpc-encoding': random.pick(['gzip', 'deflate', 'identity', 'br']),
    'content-encoding': random.pick(['gzip', 'br', 'identity']),
    authorization: `Bearer ${value()}`,
    cookie: `coder_session_token=${value()}`,
  };
  return Object.fromEntries(
    random.several(4, () => {
      const name = random.pick(names);
      return [name, (random.oneIn(2) ? sane[name] : undefined) ?? value()] as const;
    }),
  );
}

/** A token that is good, or nearly so. */
function credentials(random: Chance, known: Knowledge): Record<string, string> {
  if (!random.oneIn(3)) return { 'coder-session-token': known.sessionToken };
  // Changed bytes in the middle of a token must not end in a header that no client could send.
  const jwt = random
    .mutate(Buffer.from(known.jwt), random.below(3))
    .toString('latin1')
    .replaceAll(/[^\w.=+/-]/g, 'x');
  return { authorization: `Bearer ${jwt}` };
}

function request(random: Chance, known: Knowledge): RequestCase {
  const port = random.pick(['grpc', 'web'] as const);
  const method = random.pick(methods);
  const streams = method === 'WatchTasks';
  const right =
    port === 'grpc'
      ? ['application/grpc', 'application/grpc+proto']
      : [
          'application/grpc',
          'application/grpc-web+proto',
          streams ? 'application/connect+json' : 'application/json',
          streams ? 'application/connect+proto' : 'application/proto',
        ];
  const wrong = random.oneIn(8);
  const type = wrong ? random.pick(contentTypes) : random.pick(right);
  const message = type.endsWith('json') ? jsonBody(random, known, method) : protobufBody(random, known, method);
  const enveloped = type.startsWith('application/grpc') || type.startsWith('application/connect');
  const headers = {
    ':method': 'POST',
    ':path': wrong && random.oneIn(2) ? random.pick(paths) || '/' : `${service}/${method}`,
    'content-type': type,
    te: 'trailers',
    ...credentials(random, known),
    ...(random.oneIn(2) ? oddHeaders(random, known) : {}),
  };
  return { kind: 'request', port, headers, body: enveloped ? envelope(random, message) : message, ours: !wrong };
}
