import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatabaseAddress, PasswordSource } from '../../src/config.ts';
import { createCredentials } from '../../src/db/credentials.ts';
import { makeAuthority } from '../support/certificates.ts';

const address: DatabaseAddress = { host: 'db', port: 3306, user: 'tasks', database: 'tasks' };
const variable = 'DATABASE_PASSWORD_COMMAND';
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tasks-credentials-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const credentialsOf = (passwordSource: PasswordSource) => createCredentials({ ...address, passwordSource })();
const commandOf = (script: string) => ({ variable, command: ['sh', '-c', script] }) as const;

describe('a password from a file', () => {
  test('is read each time, without a line break at its end', async () => {
    const file = join(folder, 'password');
    writeFileSync(file, ' first \n');
    const read = createCredentials({ ...address, passwordSource: { variable, file } });
    expect(await read()).toEqual({ password: ' first ' });
    writeFileSync(file, 'second\r\n');
    expect(await read()).toEqual({ password: 'second' });
    writeFileSync(file, '\n');
    await expect(read()).rejects.toMatchObject({ message: `${variable}: the file is empty`, fatal: true });
    rmSync(file);
    await expect(read()).rejects.toThrow(`${variable}: the file cannot be read`);
  });
});

describe('a password from a command', () => {
  test('is what it prints, and one run is for all who ask in some seconds', async () => {
    const runs = join(folder, 'runs');
    const source = commandOf(`echo run >> ${runs}; echo secret; echo 'a warning' >&2`);
    expect(await Promise.all([credentialsOf(source), credentialsOf(source)])).toEqual([
      { password: 'secret' },
      { password: 'secret' },
    ]);
    expect(await credentialsOf(source)).toEqual({ password: 'secret' });
    expect(readFileSync(runs, 'utf8')).toBe('run\n');
  });

  test('of a command that failed is asked for again', async () => {
    const source = commandOf(`test -e ${folder}/allowed && echo secret`);
    await expect(credentialsOf(source)).rejects.toThrow(`${variable}: the command ended with exit code 1`);
    writeFileSync(join(folder, 'allowed'), '');
    await expect.poll(() => credentialsOf(source), { timeout: 10_000 }).toEqual({ password: 'secret' });
  });

  test.each([
    [{ variable, command: ['/nowhere/token', 'secret'] }, 'the command cannot be run (ENOENT)'],
    [commandOf('echo secret >&2; exit 3'), 'the command ended with exit code 3'],
    [commandOf('echo secret >&2; kill -9 $$'), 'the command was ended by SIGKILL'],
    [commandOf('true'), 'the command printed nothing'],
    // Its child keeps the standard output.
    [commandOf('echo secret; sleep 20; true'), 'the command did not end within 10 seconds'],
    [commandOf('yes secret'), 'the command printed more than 64 KiB'],
  ] as const)('that cannot be had is told in one line, without what was printed: %j', async (source, why) => {
    const error: unknown = await credentialsOf(source).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'CredentialsError', message: `${variable}: ${why}`, fatal: true });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('secret');
  });
});

describe('the files of TLS', () => {
  test('are read each time, and the options are the same object while they are the same', async () => {
    const ours = makeAuthority(folder, 'ours');
    const [first, second] = ['first', 'second'].map((name) => ours.issue(name));
    if (first === undefined || second === undefined) throw new Error('there is no certificate');
    const [certFile, keyFile] = [join(folder, 'client.pem'), join(folder, 'client-key.pem')];
    const show = (cert: Buffer, key: Buffer): void => {
      writeFileSync(certFile, cert);
      writeFileSync(keyFile, key);
    };
    show(first.cert, first.key);
    const read = createCredentials({ ...address, ssl: 'verify-ca', caFile: ours.certFile, certFile, keyFile });
    const { ssl } = await read();
    const [ca, cert, key] = [ours.cert, first.cert, first.key].map(String);
    expect(ssl).toEqual({ ca, cert, key, rejectUnauthorized: true, verifyIdentity: false });
    expect((await read()).ssl).toBe(ssl);
    show(second.cert, second.key);
    expect((await read()).ssl).toMatchObject({ cert: second.cert.toString(), key: second.key.toString() });
    show(first.cert, second.key);
    await expect(read()).rejects.toThrow(/^TLS to the database: the files of ca, cert and key are no certificates/);
    const locked = execFileSync('openssl', ['ec', '-aes256', '-passout', 'pass:x'], { input: first.key, stdio: 'pipe' });
    show(first.cert, locked);
    await expect(read()).rejects.toThrow(/without a passphrase$/);
    rmSync(keyFile);
    await expect(read()).rejects.toThrow('TLS to the database: the file of key cannot be read');
  });
});
