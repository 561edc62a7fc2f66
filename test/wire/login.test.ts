import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findLogin, type LocalService } from '../../packages/cli/src/find-login.ts';
import { CommandError } from '../../src/commands/command-error.ts';
import { createLog } from '../../src/platform/log.ts';
import { createCertificates } from '../../src/transport/certificates.ts';
import { makeAuthority } from '../support/certificates.ts';
import { openTerminal } from '../support/terminal.ts';
import { goodToken, startTestServer, type TestServer, until } from '../support/test-server.ts';

const root = path.resolve(import.meta.dirname, '../..');
const program = 'packages/cli/src/main.ts';
const badToken = 'aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaa';

describe('login', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'login-'));
  let server: TestServer;
  let tlsServer: TestServer;
  let address: string;
  let trusting: Record<string, string>;
  let certificates: ReturnType<typeof createCertificates>;

  beforeAll(async () => {
    const authority = makeAuthority(folder, 'own');
    const { certFile, keyFile } = authority.issue('server');
    certificates = createCertificates({ cert: certFile, key: keyFile, clientCa: undefined }, createLog('silent'));
    server = await startTestServer();
    tlsServer = await startTestServer({ certificates });
    address = `https://localhost:${tlsServer.web.split(':').at(-1)}`;
    trusting = { NODE_EXTRA_CA_CERTS: authority.certFile };
  });
  afterAll(async () => {
    await server.stop();
    await tlsServer.stop();
    certificates.close();
    rmSync(folder, { recursive: true });
  });

  /** An empty home, with the environment of who lives there. */
  function newHome(): { readonly file: string; readonly env: Record<string, string> } {
    const config = mkdtempSync(path.join(folder, 'home-'));
    // Compiled once, the program starts in half of the time.
    const env = { PATH: process.env['PATH'] ?? '', XDG_CONFIG_HOME: config, NODE_COMPILE_CACHE: path.join(folder, 'compiled') };
    return { file: path.join(config, 'tasks', 'login.json'), env };
  }

  /** Runs the program, with something in its standard input. */
  function run(args: readonly string[], env: Record<string, string>, input = '') {
    return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = execFile(process.execPath, [program, ...args], { cwd: root, env }, (_, out, err) =>
        resolve({ code: child.exitCode, out, err }),
      );
      child.stdin?.end(input);
    });
  }

  test('keeps a token of a pipe that the service takes, for its owner alone, until logout', async () => {
    const { file, env } = newHome();
    const signedIn = await run(['login', `${address}/`], { ...env, ...trusting }, `${goodToken}\n`);
    expect(signedIn).toEqual({ code: 0, out: '', err: expect.stringContaining(`signed in to ${address}`) });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ address, token: goodToken });
    expect(readdirSync(path.dirname(file))).toEqual(['login.json']);
    expect((await run(['count', '--query', 'abc', '-q'], { ...env, ...trusting })).out).toBe('3\n');

    chmodSync(file, 0o644);
    expect((await run(['count', '-q'], { ...env, ...trusting })).err).toContain(
      `others on this machine may read the token in ${file}`,
    );
    expect((await run(['logout'], env)).code).toBe(0);
    expect(existsSync(file)).toBe(false);
    expect((await run(['logout'], env)).err).toBe('nobody was signed in\n');
    expect((await run(['list'], env)).code).toBe(5);
  });

  test('keeps nothing that the service refuses or nobody answers for, and leaves what was kept', async () => {
    const { file, env } = newHome();
    const url = `http://${server.web}`;
    for (const [where, token, code, message] of [
      [url, badToken, 5, /session/],
      [url, '\n', 5, /no session token/],
      ['127.0.0.1:1', goodToken, 6, /ECONNREFUSED/],
      [address, goodToken, 1, /certificate/], // of no authority that is known
      ['http://', goodToken, 1, /not an address/],
      ['ftp://127.0.0.1', goodToken, 1, /not an address/],
      [`https://${server.web}`, goodToken, 1, /does not speak TLS: is http:/],
      [`${server.web}/wrong`, goodToken, 1, /the address of the service's page\?/],
      [server.grpc, goodToken, 1, /the address of the service's page\?/],
      [server.ops, goodToken, 1, /the address of the service's page\?/],
    ] as const) {
      const { code: ended, err } = await run(['login', where], env, token);
      expect([ended, err], where).toEqual([code, expect.stringMatching(message)]);
      expect(err.trim().split('\n')).toHaveLength(1);
      expect(existsSync(file)).toBe(false);
    }
    expect((await run(['login', server.web], env, goodToken)).code).toBe(0);
    expect((await run(['login', server.web], env, badToken)).code).toBe(5);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ address: url, token: goodToken });
  });

  test('a flag goes before the environment, that before npm start and the login, whose tokens are for their own address alone', () => {
    const { file, env } = newHome();
    const tokenFile = path.join(folder, 'token');
    writeFileSync(tokenFile, 'of-a-file\n');
    const find = (options: { address?: string }, more: Record<string, string>, local?: LocalService) => {
      try {
        const { address, token } = findLogin(options, { ...env, ...more }, local);
        return `${token} at ${address}`;
      } catch (error) {
        return error instanceof CommandError ? error.exitCode : error;
      }
    };
    const here = { address: 'http://127.0.0.1:8080', token: 'local' };
    expect([find({}, {}), find({}, {}, here)]).toEqual([5, 'local at http://127.0.0.1:8080']);
    mkdirSync(path.dirname(file));
    writeFileSync(file, JSON.stringify({ address: 'https://kept', token: 'kept' }));
    const variables = { TASKS_ADDRESS: 'https://variable', TASKS_TOKEN: 'variable' };
    expect(find({}, {})).toBe('kept at https://kept');
    expect(find({}, {}, here)).toBe('local at http://127.0.0.1:8080');
    expect(find({}, { TASKS_ADDRESS: '127.0.0.1:8080/' }, here)).toBe('local at http://127.0.0.1:8080');
    expect(find({ address: 'https://kept/#x' }, { TASKS_ADDRESS: 'https://variable' })).toBe('kept at https://kept');
    expect(find({}, { TASKS_TOKEN: 'variable' })).toBe('variable at https://kept');
    expect(find({}, { TASKS_TOKEN: '', TASKS_TOKEN_FILE: tokenFile })).toBe('of-a-file at https://kept');
    expect(find({}, variables, here)).toBe('variable at https://variable');
    expect(find({ address: 'https://given/tasks/' }, variables)).toBe('variable at https://given/tasks');
    expect(find({}, { TASKS_ADDRESS: 'https://variable' }, here)).toBe(5);
    expect(find({ address: 'https://given' }, {})).toBe(5);
    expect(find({}, { TASKS_TOKEN_FILE: '/nowhere' })).toBe(5);
    writeFileSync(file, '{"address":');
    expect([find({}, {}), find({}, variables)]).toEqual([1, 'variable at https://variable']);
  });

  test('a prompt at a terminal does not show the token', async () => {
    const { file, env } = newHome();
    const command = `"${process.execPath}" ${program} login ${server.web}`;
    const shell = openTerminal(command, { ...env, TERM: 'xterm' });
    await until('the prompt', () => shell.out.includes(`Session token for http://${server.web}: `));
    shell.type(`${goodToken}\r`);
    expect(await shell.ended).toBe(0);
    expect(shell.out).toContain('signed in to');
    expect(shell.out).not.toContain(goodToken.slice(0, 10));
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ token: goodToken });
  });

  describe('through a proxy', () => {
    const seen: string[] = [];
    let proxy: http.Server;
    let url: string;

    beforeAll(async () => {
      proxy = http.createServer();
      proxy.on('connect', (request, socket: net.Socket) => {
        seen.push(`CONNECT ${request.url} ${request.headers['proxy-authorization'] ?? ''}`.trim());
        const to = net.connect(Number(request.url?.split(':').at(-1)), '127.0.0.1', () => {
          socket.write('HTTP/1.1 200 OK\r\n\r\n');
          socket.pipe(to).pipe(socket);
        });
        for (const each of [socket, to]) each.on('error', () => socket.destroy());
      });
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
      url = `http://name:secret@127.0.0.1:${(proxy.address() as net.AddressInfo).port}`;
    });
    afterAll(() => void proxy.close());

    test.each<[string, variables: () => Record<string, string>, through: () => readonly string[]]>([
      [
        'HTTPS_PROXY for https',
        () => ({ HTTPS_PROXY: url }),
        () => [`CONNECT ${new URL(address).host} Basic ${Buffer.from('name:secret').toString('base64')}`],
      ],
      ['https_proxy, which is the same', () => ({ https_proxy: url }), () => [expect.stringContaining('CONNECT')]],
      ['HTTP_PROXY, which is none for https', () => ({ HTTP_PROXY: url }), () => []],
      ['NO_PROXY', () => ({ HTTPS_PROXY: url, NO_PROXY: 'example.com,localhost' }), () => []],
    ])('%s', async (_name, variables, through) => {
      seen.length = 0;
      const env = { ...newHome().env, ...trusting, TASKS_ADDRESS: address, TASKS_TOKEN: goodToken, ...variables() };
      expect(await run(['count', '--query', 'abc', '-q'], env)).toEqual({ code: 0, out: '3\n', err: '' });
      expect(seen).toEqual(through());
    });

    test('HTTP_PROXY for http', async () => {
      seen.length = 0;
      const env = { ...newHome().env, TASKS_ADDRESS: server.web, TASKS_TOKEN: goodToken, HTTP_PROXY: url };
      expect((await run(['count', '--query', 'abc', '-q'], env)).out).toBe('3\n');
      expect(seen).toEqual([expect.stringContaining(`CONNECT ${server.web}`)]);
    });

    test('one that is away, or no URL', async () => {
      const env = { ...newHome().env, TASKS_ADDRESS: server.web, TASKS_TOKEN: goodToken };
      const { code, err } = await run(['count'], { ...env, HTTP_PROXY: 'http://name:secret@127.0.0.1:1' });
      expect([code, err]).toEqual([6, 'connect ECONNREFUSED 127.0.0.1:1 (through the proxy 127.0.0.1:1)\n']);
      expect((await run(['count'], { ...env, HTTP_PROXY: 'http://:x' })).code).toBe(1);
    });
  });
});
