import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config.ts';
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type CertificateFiles, type Certificates, createCertificates } from '../../src/transport/certificates.ts';
import { type Authority, type IssuedCertificate, makeAuthority } from '../support/certificates.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { type LogLine, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

/** How often the tests have the files looked at, in milliseconds. */
const lookEveryMs = 20;

const { listTasks } = TasksService.method;
let folder: string;
let ours: Authority;
let foreign: Authority;
let first: IssuedCertificate;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tasks-tls-'));
  ours = makeAuthority(folder, 'ours');
  foreign = makeAuthority(folder, 'foreign');
  first = ours.issue('first');
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A server whose certificate files are its own, to be replaced. */
interface TlsServer extends TestServer {
  readonly files: CertificateFiles & { readonly cert: string; readonly key: string };
  /** What was logged of the certificates. */
  readonly tlsLog: readonly LogLine[];
}

async function startTlsServer(clientCa?: string): Promise<TlsServer> {
  const own = mkdtempSync(join(folder, 'server-'));
  const files = { cert: join(own, 'tls.crt'), key: join(own, 'tls.key'), clientCa };
  cpSync(first.certFile, files.cert);
  cpSync(first.keyFile, files.key);
  const tlsLog: LogLine[] = [];
  const log = pino({ level: 'debug', base: null }, { write: (line) => void tlsLog.push(JSON.parse(line) as LogLine) });
  const certificates: Certificates = createCertificates(files, log, lookEveryMs);
  const server = await startTestServer({ certificates });
  return {
    ...server,
    files,
    tlsLog,
    async stop() {
      await server.stop();
      certificates.close();
    },
  };
}

function clientOf(address: string, authority = ours, shown?: IssuedCertificate): GrpcClient {
  return makeGrpcClient(address, {}, credentials.createSsl(authority.cert, shown?.key, shown?.cert));
}

/** What a call comes to: its count, or its error's code. */
async function outcome(client: GrpcClient): Promise<number | Code> {
  try {
    const { message } = await client.unary(listTasks, { pageSize: 7 }, { headers: signedIn, timeoutMs: 5000 });
    return message.count;
  } catch (error) {
    return ConnectError.from(error).code;
  } finally {
    client.close();
  }
}

/** Connects, and resolves with the connection after its handshake. @throws when the handshake fails. */
async function handshake(address: string, options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  const { hostname, port } = new URL(`https://${address}`);
  const socket = tls.connect({ host: hostname, port: Number(port), ca: ours.cert, ALPNProtocols: ['h2'], ...options });
  await once(socket, 'secureConnect');
  socket.on('error', () => {});
  return socket;
}

/** Whether a server says anything to a client, and the sessions that the client could resume. */
async function tryHandshake(
  address: string,
  options: tls.ConnectionOptions,
): Promise<{ readonly greeted: boolean; readonly sessions: readonly Buffer[] }> {
  const { hostname, port } = new URL(`https://${address}`);
  const socket = tls.connect({ host: hostname, port: Number(port), ca: ours.cert, ALPNProtocols: ['h2'], ...options });
  const sessions: Buffer[] = [];
  let greeted = false;
  socket.on('error', () => {});
  socket.on('session', (session: Buffer) => void sessions.push(session));
  socket.on('secureConnect', () => sessions.push(socket.getSession() ?? Buffer.alloc(0)));
  socket.on('data', () => {
    greeted = true;
    socket.destroy();
  });
  await new Promise((resolve) => socket.once('close', resolve));
  return { greeted, sessions: sessions.filter(({ length }) => length > 0) };
}

describe('with a certificate', () => {
  let server: TlsServer;
  beforeAll(async () => {
    server = await startTlsServer();
  });
  afterAll(async () => {
    await server.stop();
  });
  const ports = ['grpc', 'web'] as const;

  test.each(ports)('grpc-js calls the %s port', async (port) => {
    expect(await outcome(clientOf(server[port]))).toBe(7);
  });

  test('so do connect-node over HTTP/2 and HTTP/1.1, in gRPC and Connect', async () => {
    const nodeOptions = { ca: ours.cert };
    const transports = [
      createGrpcTransport({ baseUrl: `https://${server.grpc}`, nodeOptions }),
      createGrpcTransport({ baseUrl: `https://${server.web}`, nodeOptions }),
      createConnectTransport({ baseUrl: `https://${server.web}`, httpVersion: '2', nodeOptions }),
      createConnectTransport({ baseUrl: `https://${server.web}`, httpVersion: '1.1', nodeOptions }),
    ];
    for (const transport of transports) {
      const { count } = await createClient(TasksService, transport).listTasks({ pageSize: 7 }, { headers: signedIn });
      expect(count).toBe(7);
    }
  });

  test('and node:https, which is told to come by TLS from now on', async () => {
    const request = https.get(`https://${server.web}/api/experimental/tasks`, { ca: ours.cert, agent: false });
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    expect(response.statusCode).toBe(401);
    expect(response.headers['strict-transport-security']).toBe('max-age=31536000');
    response.resume();
  });

  test('ALPN decides the version of HTTP', async () => {
    const offers = [
      ['grpc', ['h2', 'http/1.1'], 'h2'],
      ['web', ['h2', 'http/1.1'], 'h2'],
      ['web', ['http/1.1'], 'http/1.1'],
      ['web', undefined, false],
    ] as const;
    for (const [port, ALPNProtocols, chosen] of offers) {
      const socket = await handshake(server[port], {
        ALPNProtocols: ALPNProtocols === undefined ? undefined : [...ALPNProtocols],
      });
      expect(socket.alpnProtocol).toBe(chosen);
      socket.destroy();
    }
    await expect(handshake(server.grpc, { ALPNProtocols: ['http/1.1'] })).rejects.toThrow(/no application protocol/);
  });

  test('a client that knows another authority, or another name, does not call', async () => {
    expect(await outcome(clientOf(server.grpc, foreign))).toBe(Code.Unavailable);
    await expect(handshake(server.web, { ca: foreign.cert })).rejects.toThrow(/certificate/);
    await expect(handshake(server.web, { servername: 'elsewhere.example' })).rejects.toThrow(/does not match/);
  });

  test.each(ports)('the %s port refuses TLS 1.1, and ciphers without forward secrecy', async (port) => {
    const weak = { ciphers: 'ALL@SECLEVEL=0' };
    await expect(handshake(server[port], { ...weak, minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })).rejects.toThrow(/version/);
    const cbc = { ciphers: 'ECDHE-ECDSA-AES128-SHA:AES128-SHA', maxVersion: 'TLSv1.2' } as const;
    await expect(handshake(server[port], cbc)).rejects.toThrow(/handshake failure/);
    const old = await handshake(server[port], { maxVersion: 'TLSv1.2' });
    expect(old.getProtocol()).toBe('TLSv1.2');
    old.destroy();
  });

  test.each(ports)('clear text on the %s port ends the connection, and nothing else', async (port) => {
    for (const text of ['GET / HTTP/1.1\r\nhost: x\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '\0'.repeat(100)]) {
      const { hostname, port: number } = new URL(`http://${server[port]}`);
      const socket = net.connect(Number(number), hostname);
      socket.on('error', () => {});
      socket.write(text);
      socket.resume();
      await once(socket, 'close');
    }
    expect(await outcome(clientOf(server[port]))).toBe(7);
  });

  test('a connection reset at any moment of its handshake harms nobody', async () => {
    for (const port of ports) {
      for (const bytes of [0, 1, 5, 80]) {
        const { hostname, port: number } = new URL(`http://${server[port]}`);
        const socket = net.connect(Number(number), hostname);
        socket.on('error', () => {});
        await once(socket, 'connect');
        socket.write(Buffer.from('160301020001', 'hex').subarray(0, bytes));
        socket.resetAndDestroy();
      }
      expect(await outcome(clientOf(server[port]))).toBe(7);
    }
  });

  test('probes and metrics stay in clear text, with the time the certificate runs out', async () => {
    expect((await fetch(`http://${server.ops}/readyz`)).status).toBe(200);
    const metrics = await (await fetch(`http://${server.ops}/metrics`)).text();
    const [, seconds] = /^tasks_tls_certificate_expires_timestamp_seconds (\S+)$/m.exec(metrics) ?? [];
    expect(Math.abs(Number(seconds) - Date.now() / 1000 - 20 * 86_400)).toBeLessThan(600);
  });
});

describe('a certificate that is replaced', () => {
  let server: TlsServer;
  beforeAll(async () => {
    server = await startTlsServer();
  });
  afterAll(async () => {
    await server.stop();
  });

  const shownName = async (port: 'grpc' | 'web'): Promise<unknown> => {
    const socket = await handshake(server[port]);
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return subject.CN;
  };

  test('is shown to new connections, and those that run go on', async () => {
    const client = clientOf(server.grpc);
    const watching = client.serverStream(Health.method.watch, { service: '' })[Symbol.asyncIterator]();
    expect((await watching.next()).value).toMatchObject({ status: ServingStatus.SERVING });

    const second = ours.issue('second');
    cpSync(second.certFile, server.files.cert);
    // Files are not replaced at one moment: a certificate without its key changes nothing.
    await until('refusal', () => server.tlsLog.find(({ level }) => level === 50));
    expect(await shownName('grpc')).toBe('first');
    cpSync(second.keyFile, server.files.key);
    await until('new certificate', () => server.tlsLog.find(({ msg }) => msg === 'the new TLS certificate is in use'));
    expect([await shownName('grpc'), await shownName('web')]).toEqual(['second', 'second']);

    const { count } = (await client.unary(listTasks, { pageSize: 3 }, { headers: signedIn })).message;
    expect(count).toBe(3); // over the connection of before
    await watching.return?.();
    client.close();
  });

  test.each([
    ['no certificate', 'nonsense', undefined],
    ['no key', undefined, 'nonsense'],
    ['cut short', '-----BEGIN CERTIFICATE-----\nMIIB', undefined],
  ])('is not used when it is %s, which is told once', async (_, cert, key) => {
    const before = await shownName('web');
    const told = server.tlsLog.filter(({ level }) => level === 50).length;
    if (cert !== undefined) writeFileSync(server.files.cert, cert);
    if (key !== undefined) writeFileSync(server.files.key, key);
    const errors = () => server.tlsLog.filter(({ level }) => level === 50).slice(told);
    await until('error', () => errors().length > 0);
    await new Promise((resolve) => {
      setTimeout(resolve, 5 * lookEveryMs);
    });
    expect(errors()).toHaveLength(1);
    expect(JSON.stringify(errors())).not.toContain('PRIVATE');
    expect(await shownName('web')).toBe(before);
    const again = ours.issue('again');
    cpSync(again.keyFile, server.files.key);
    cpSync(again.certFile, server.files.cert);
    await until('a good one', () => server.tlsLog.at(-1)?.['level'] === 30);
    expect(await shownName('web')).toBe('again');
  });
});

describe('with clients that show certificates', () => {
  let server: TlsServer;
  let good: IssuedCertificate;
  beforeAll(async () => {
    server = await startTlsServer(ours.certFile);
    good = ours.issue('client', { names: ['DNS:client'] });
  });
  afterAll(async () => {
    await server.stop();
  });

  test('one of our authority is let in, with its token, on both ports', async () => {
    expect(await outcome(clientOf(server.grpc, ours, good))).toBe(7);
    expect(await outcome(clientOf(server.web, ours, good))).toBe(7);
    const nodeOptions = { ca: ours.cert, cert: good.cert, key: good.key };
    const transport = createConnectTransport({ baseUrl: `https://${server.web}`, httpVersion: '1.1', nodeOptions });
    const client = createClient(TasksService, transport);
    await expect(client.listTasks({})).rejects.toMatchObject({ code: Code.Unauthenticated });
    expect((await client.listTasks({ pageSize: 7 }, { headers: signedIn })).count).toBe(7);
  });

  test.each(['grpc', 'web'] as const)('one without, of another authority, or expired is refused on the %s port', async (port) => {
    for (const shown of [undefined, foreign.issue('foreign'), ours.issue('expired', { days: -1 })]) {
      const told = server.tlsLog.length;
      expect(await outcome(clientOf(server[port], ours, shown))).toBe(Code.Unavailable);
      const line = await until('a line in the log', () =>
        server.tlsLog.slice(told).find(({ msg }) => msg === 'a TLS handshake failed'),
      );
      expect(line).toMatchObject({ level: 30, why: expect.stringMatching(/CERT|ISSUER|VERIFY/) });
    }
    expect(server.log.filter(({ msg }) => String(msg).startsWith('call')).length).toBe(server.log.length);
  });

  // A resumed session shows no certificate.
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('a session of %s does not stand for a certificate', async (version) => {
    for (const port of ['grpc', 'web'] as const) {
      for (const shown of [good, foreign.issue('foreign')]) {
        const options = { minVersion: version, maxVersion: version } as const;
        const { greeted, sessions } = await tryHandshake(server[port], { ...options, cert: shown.cert, key: shown.key });
        expect(greeted).toBe(shown === good);
        for (const session of [undefined, ...sessions]) {
          expect((await tryHandshake(server[port], { ...options, session })).greeted).toBe(false);
        }
      }
    }
  });
});

test('a certificate that has expired is told, and served', () => {
  const { certFile: cert, keyFile: key } = ours.issue('expired-server', { days: -1 });
  const lines: LogLine[] = [];
  const log = pino({}, { write: (line) => void lines.push(JSON.parse(line) as LogLine) });
  createCertificates({ cert, key }, log).close();
  expect(lines).toEqual([expect.objectContaining({ level: 40, msg: 'the TLS certificate has expired' })]);
});

test('a stop waits neither for connections that say nothing nor for those that are idle', async () => {
  const server = await startTlsServer();
  const closed: Promise<unknown>[] = [];
  for (const port of ['grpc', 'web'] as const) {
    const { hostname, port: number } = new URL(`http://${server[port]}`);
    const mute = net.connect(Number(number), hostname);
    mute.on('error', () => {});
    await once(mute, 'connect');
    const idle = await handshake(server[port]);
    for (const socket of [mute, idle]) {
      socket.resume();
      closed.push(new Promise((resolve) => socket.once('close', resolve)));
    }
  }
  const started = performance.now();
  await server.stop();
  await Promise.all(closed);
  expect(performance.now() - started).toBeLessThan(5000); // a handshake alone has ten seconds
});

test.each([
  ['a file that is not there', { cert: '/nowhere' }, 'TLS_CERT_FILE: the file cannot be read'],
  ['a key of another certificate', { key: 'foreign' }, 'TLS_KEY_FILE: is not the key of the certificate'],
  ['a file that is not a certificate', { clientCa: 'key' }, 'TLS_CLIENT_CA_FILE: is no certificate in PEM'],
] as const)('%s is told at the start', (_, wrong, message) => {
  const files: Record<string, string> = { cert: first.certFile, key: first.keyFile };
  for (const [kind, path] of Object.entries(wrong as Record<string, string>)) {
    const made: Record<string, () => string> = { foreign: () => foreign.issue('other').keyFile, key: () => first.keyFile };
    files[kind] = made[path]?.() ?? path;
  }
  const open = () => createCertificates(files as unknown as CertificateFiles, pino({ level: 'silent' }));
  expect(open).toThrow(ConfigError);
  expect(open).toThrow(message);
});

test('the program serves TLS, and its health check finds the operator port', async () => {
  const database = await createTestDatabase('mariadb');
  const env = { TLS_CERT_FILE: first.certFile, TLS_KEY_FILE: first.keyFile };
  const service = await startService(database.address, env);
  try {
    expect(await outcome(clientOf(service.grpc))).toBe(Code.Unauthenticated);
    expect(await outcome(clientOf(service.web))).toBe(Code.Unauthenticated);
    const ops = new URL(`http://${service.ops}`);
    const check = spawnSync(process.execPath, ['src/main.ts', 'healthcheck'], {
      env: { PATH: process.env['PATH'], ...env, HOST: ops.hostname, OPS_PORT: ops.port },
      encoding: 'utf8',
    });
    expect([check.status, check.stdout]).toEqual([0, expect.stringContaining('"ready"')]);
  } finally {
    expect(await service.stop()).toBe(0);
    await database.drop();
  }
});
