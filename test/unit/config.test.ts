import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError, readConfig } from '../../src/config.ts';

test('nothing set gives the defaults', () => {
  expect(readConfig({})).toMatchObject({
    STATEMENT_TIMEOUT_MS: 2000,
    GRPC_PORT: 50051,
    WEB_PORT: 8080,
    OPS_PORT: 9090,
    AUTH_CACHE_SECONDS: 5,
    AGENT_INACTIVE_SECONDS: 30,
    PROJECTOR: true,
    MIGRATE_ON_START: false,
    BASE_PATH: '/',
    WEB_ORIGINS: [],
  });
});

test('an empty variable counts as absent', () => {
  expect(readConfig({ GRPC_PORT: '', DATABASE_URL: '' })).toMatchObject({ GRPC_PORT: 50051 });
});

describe('DATABASE_URL', () => {
  test.each([
    ['mysql://db/tasks', { host: 'db', port: 3306, user: 'root', database: 'tasks' }],
    [
      'mysql://u:p%40ss@db:3307/tasks?ssl=true',
      { host: 'db', port: 3307, user: 'u', password: 'p@ss', database: 'tasks', ssl: 'verify' },
    ],
    ['mysql://u@localhost/tasks?socket=/run/db.sock', { socketPath: '/run/db.sock', user: 'u', database: 'tasks' }],
    ['mysql://u:p@[::1]:3306/tasks', { host: '::1', port: 3306, user: 'u', password: 'p', database: 'tasks' }],
    ['mysql://u@db/tasks?ssl=no-verify', { host: 'db', port: 3306, user: 'u', database: 'tasks', ssl: 'no-verify' }],
    ['mysql://u@db/tasks?ssl=verify-identity', { host: 'db', port: 3306, user: 'u', database: 'tasks', ssl: 'verify' }],
    ['mysql://u@db/tasks?ssl=false', { host: 'db', port: 3306, user: 'u', database: 'tasks' }],
  ])('%s', (url, address) => {
    expect(readConfig({ DATABASE_URL: url }).DATABASE_URL).toEqual(address);
  });

  test.each([
    'tasks',
    'postgres://u:secret@db/tasks',
    'mysql://u:secret@db',
    'mysql://u:secret@db/tasks?ssl=perhaps',
    'mysql://u:secret@db/tasks?x=1',
    'mysql://u:secret@db/tasks?ca=package.json',
    'mysql://u:secret@db/tasks?ssl=true&ca=/nowhere',
    'mysql://u:secret@db/tasks?ssl=true&ca=package.json',
    'mysql://u:secret@10.0.0.1/tasks?ssl=true',
    'mysql://u:secret@[::1]/tasks?ssl=true',
    'mysql://u:secret@db/tasks?ssl=toString',
    'mysql://u:secret@db/tasks?ssl=true&ssl=false',
    'mysql://u:secret@db/tasks?ssl=verify-ca',
    'mysql://u:secret@db/tasks?ssl=true&cert=package.json',
    'mysql://u:secret%@db/tasks',
    'mysql://u:secret@db:0/tasks',
  ])('%s is refused, without its value in the message', (url) => {
    expect(() => readConfig({ DATABASE_URL: url })).toThrow(/DATABASE_URL: /);
    expect(() => readConfig({ DATABASE_URL: url })).not.toThrow(/secret/);
  });
});

describe('files of TLS to the database', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'config-'));
    writeFileSync(path.join(folder, 'CERT'), '-----BEGIN CERTIFICATE-----');
    writeFileSync(path.join(folder, 'KEY'), '-----BEGIN EC PRIVATE KEY-----');
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const read = (parameters: string) => {
    const url = `mysql://u:secret@10.0.0.1/tasks?${parameters.replaceAll(/CERT|KEY/g, `${folder}/$&`)}`;
    return readConfig({ DATABASE_URL: url }).DATABASE_URL;
  };

  test('are named in the address', () => {
    expect(read('ssl=verify-ca&ca=CERT&cert=CERT&key=KEY')).toMatchObject({
      ssl: 'verify-ca',
      caFile: `${folder}/CERT`,
      certFile: `${folder}/CERT`,
      keyFile: `${folder}/KEY`,
    });
    expect(read('ssl=no-verify&cert=CERT&key=KEY')).toMatchObject({ ssl: 'no-verify', certFile: `${folder}/CERT` });
  });

  test.each([
    ['ssl=verify-ca', 'ssl=verify-ca needs ca'],
    ['ca=CERT', 'ca goes with ssl=true or ssl=verify-ca'],
    ['ssl=no-verify&ca=CERT', 'ca goes with ssl=true or ssl=verify-ca'],
    ['ssl=no-verify&cert=CERT', 'cert and key: one needs the other'],
    ['ssl=no-verify&key=KEY', 'cert and key: one needs the other'],
    ['cert=CERT&key=KEY', 'cert and key go with ssl=true'],
    ['ssl=no-verify&cert=KEY&key=KEY', 'cert must be a file with certificates in PEM'],
    ['ssl=no-verify&cert=CERT&key=CERT', 'key must be a file with a private key in PEM'],
    ['ssl=true', 'ssl=true needs the name of a host, no address; ssl=verify-ca does not'],
  ])('%s is refused: %s', (parameters, why) => {
    expect(() => read(parameters)).toThrow(`DATABASE_URL: ${why}`);
  });
});

describe.each(['DATABASE', 'DATABASE_REPLICA'] as const)('%s_PASSWORD_FILE and _COMMAND', (prefix) => {
  const [url, file, command] = [`${prefix}_URL`, `${prefix}_PASSWORD_FILE`, `${prefix}_PASSWORD_COMMAND`] as const;
  const address = 'mysql://u@db/tasks';

  test('are part of the address', () => {
    const fromFile = readConfig({ [url]: address, [file]: 'package.json' });
    expect(fromFile[url]?.passwordSource).toEqual({ variable: file, file: 'package.json' });
    const text = `token --for "my db" 'say "it"' x" "y`;
    const fromCommand = readConfig({ [url]: address, [command]: text });
    expect(fromCommand[url]?.passwordSource).toEqual({
      variable: command,
      command: ['token', '--for', 'my db', 'say "it"', 'x y'],
    });
  });

  test.each([
    [{ [file]: 'package.json' }, `${file}: needs ${url}`],
    [{ [command]: 'token' }, `${command}: needs ${url}`],
    [{ [url]: address, [file]: 'package.json', [command]: 'token' }, `${file} and ${command}: only one of them may be set`],
    [{ [url]: 'mysql://u:secret@db/tasks', [file]: 'package.json' }, `${file}: ${url} has a password, and only one may be set`],
    [{ [url]: 'mysql://u:secret@db/tasks', [command]: 'token' }, `${command}: ${url} has a password, and only one may be set`],
    [{ [url]: address, [file]: '/nowhere' }, `${file}: the file cannot be read`],
    [{ [url]: address, [file]: '/dev/null' }, `${file}: the file is empty`],
    [{ [url]: address, [command]: 'say "secret' }, `${command}: must be a program and its arguments, with quotes in pairs`],
    [{ [url]: address, [command]: ' ' }, `${command}: must be a program`],
    [{ [url]: address, [command]: '"" secret' }, `${command}: must be a program`],
  ])('%j is refused: %s', (env, why) => {
    expect(() => readConfig(env)).toThrow(why);
    expect(() => readConfig(env)).not.toThrow(/secret/);
  });
});

test.each([
  [{ TLS_CERT_FILE: 'a' }, 'TLS_CERT_FILE and TLS_KEY_FILE: one needs the other'],
  [{ TLS_KEY_FILE: 'a' }, 'TLS_CERT_FILE and TLS_KEY_FILE: one needs the other'],
  [{ TLS_CLIENT_CA_FILE: 'a' }, 'TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE'],
])('half of TLS is refused: %j', (env, message) => {
  expect(() => readConfig(env)).toThrow(message);
});

test.each([
  [{ JWT_ISSUER: 'https://i' }, 'each needs the others'],
  [{ JWT_ISSUER: 'https://i', JWT_JWKS: 'keys.json' }, 'each needs the others'],
  [{ JWT_ROLES_CLAIM: 'roles' }, 'JWT_ROLES_CLAIM: needs JWT_ISSUER'],
  [{ JWT_ISSUER: 'i', JWT_AUDIENCE: 'a', JWT_JWKS: 'http://issuer/keys' }, 'JWT_JWKS: must be a file'],
  [{ JWT_ISSUER: 'i', JWT_AUDIENCE: 'a', JWT_JWKS: 'https://u:secret@issuer/keys' }, 'JWT_JWKS: must be a file'],
  [{ JWT_ISSUER: 'i', JWT_AUDIENCE: 'a', JWT_JWKS: 'ftp://issuer/keys' }, 'JWT_JWKS: must be a file'],
])('an issuer that cannot be trusted is refused: %j', (env, message) => {
  expect(() => readConfig(env)).toThrow(message);
  expect(() => readConfig(env)).not.toThrow(/secret/);
});

test.each(['https://issuer/keys', 'http://localhost:1/keys', 'http://[::1]:1/keys', '/etc/keys.json', 'keys.json'])(
  'keys may be at %s',
  (place) => {
    expect(readConfig({ JWT_ISSUER: 'i', JWT_AUDIENCE: 'a', JWT_JWKS: place }).JWT_JWKS).toBe(place);
  },
);

describe('ports and origins', () => {
  test('two ports are not the same, unless any will do', () => {
    expect(() => readConfig({ GRPC_PORT: '8080' })).toThrow('WEB_PORT: is the same port as GRPC_PORT');
    expect(() => readConfig({ GRPC_PORT: '8080', LOG_LEVEL: 'x' })).toThrow('WEB_PORT: is the same port as GRPC_PORT');
    expect(readConfig({ GRPC_PORT: '0', WEB_PORT: '0', OPS_PORT: '0' }).OPS_PORT).toBe(0);
  });

  test.each(['127.0.0.1', '0.0.0.0', '::', '::1', 'localhost', 'node-1.example.com'])('%s is a host', (host) => {
    expect(readConfig({ HOST: host }).HOST).toBe(host);
  });

  test.each(['127.0.0', '256.1.1.1', '127.0.0.1:80', '[::1]', 'a b', 'http://a', '-a', 'a/b'])('%s is no host', (host) => {
    expect(() => readConfig({ HOST: host })).toThrow('HOST: must be an address or a name of this machine');
  });

  test('origins are as browsers send them', () => {
    const origins = 'https://app.example.com, http://localhost:5173';
    expect(readConfig({ WEB_ORIGINS: origins }).WEB_ORIGINS).toEqual(['https://app.example.com', 'http://localhost:5173']);
  });

  test.each(['evil', 'https://app.example.com/', 'https://app.example.com/x', 'https://app.example.com:443', '*', 'null'])(
    '%s is no origin',
    (origin) => {
      expect(() => readConfig({ WEB_ORIGINS: origin })).toThrow('WEB_ORIGINS: ');
    },
  );
});

test('all problems are told in one message, and no value is', () => {
  const env = { GRPC_PORT: 'http-s3cret', WEB_PORT: '70000', LOG_LEVEL: 'loud', PROJECTOR: 'maybe', PAGE_TOKEN_KEY: 'abc' };
  try {
    readConfig(env);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { message } = error as ConfigError;
    for (const name of Object.keys(env)) expect(message).toContain(`${name}: `);
    expect(message).not.toContain('s3cret');
  }
});

describe('secrets from files', () => {
  test('are read and trimmed; both forms, or an unreadable file, are problems', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'config-'));
    try {
      const file = path.join(directory, 'url');
      writeFileSync(file, 'mysql://u:p@db/tasks\n');
      expect(readConfig({ DATABASE_URL_FILE: file }).DATABASE_URL).toMatchObject({ password: 'p' });
      expect(() => readConfig({ DATABASE_URL_FILE: file, DATABASE_URL: 'mysql://db/tasks' })).toThrow(/only one/);
      expect(() => readConfig({ DATABASE_URL_FILE: path.join(directory, 'none') })).toThrow(/cannot be read/);
      writeFileSync(file, 'no address');
      expect(() => readConfig({ DATABASE_URL_FILE: file, DATABASE_URL: 'mysql://db/tasks' })).toThrow(/1 problem/);
      writeFileSync(file, '\n');
      expect(() => readConfig({ DATABASE_URL_FILE: file })).toThrow('DATABASE_URL_FILE: the file is empty');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

test.each([
  ['/', '/'],
  ['/tasks/', '/tasks/'],
  ['/tasks', '/tasks/'],
  ['/a/b.c~d_e-f', '/a/b.c~d_e-f/'],
  ['', '/'],
])('the base path %j is %j', (given, basePath) => {
  expect(readConfig({ BASE_PATH: given }).BASE_PATH).toBe(basePath);
});

test.each(['tasks', 'tasks/', '//', '/a//b', '/..', '/a/../b', '/./', '/a b', '/a%20b', '/a?b', '/a:b', 'http://host/a'])(
  '%j is no base path',
  (given) => {
    expect(() => readConfig({ BASE_PATH: given })).toThrow('BASE_PATH: ');
  },
);

test.each(['https://coder.example.com', 'http://coder.coder.svc:8080', 'https://example.com/coder/'])(
  'CODER_URL is %j',
  (url) => {
    expect(readConfig({ CODER_URL: url }).CODER_URL).toBe(url);
  },
);

test.each([
  'coder.example.com',
  'ftp://coder.example.com',
  'https://user@coder.example.com',
  'https://:secret@coder.example.com',
  'https://coder.example.com/?',
  'https://coder.example.com/#a',
  'https://',
])('%j is no CODER_URL, in one line that does not repeat it', (url) => {
  expect(() => readConfig({ CODER_URL: url })).toThrow(
    /^[^\n]*\n {2}CODER_URL: must look like https:\/\/coder\.example\.com, without a user, \? or #$/,
  );
});

test.each(['Tasks', '1st', 'a-b', "x'y", 'x'.repeat(55)])('%j is no name of a slot', (name) => {
  expect(() => readConfig({ CODER_SLOT: name })).toThrow('CODER_SLOT: must be up to 54 lower-case letters, digits and _');
});
