import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import * as z from 'zod';

/** The address and the credentials of a database. */
export interface DatabaseAddress {
  readonly host?: string;
  readonly port?: number;
  /** A Unix socket, instead of host and port. */
  readonly socketPath?: string;
  readonly user: string;
  readonly password?: string;
  /** The source of the password for each new connection, instead of a fixed password. */
  readonly passwordSource?: PasswordSource;
  readonly database: string;
  /** TLS to the server: the certificate verified with its host name, verified without it, or not verified; or no TLS. */
  readonly ssl?: 'verify' | 'verify-ca' | 'no-verify';
  /** A PEM file of the authorities for the server's certificate, instead of Node's. */
  readonly caFile?: string;
  /** PEM files of the client's certificate and its key. All of these files are read for each new connection. */
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** A file with a password, or a command and its arguments that prints it; and the variable that names it, for messages. */
export type PasswordSource = { readonly variable: string } & (
  | { readonly file: string }
  | { readonly file?: undefined; readonly command: readonly [string, ...string[]] }
);

/** Thrown when the environment is invalid: one message that lists every problem, a line each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const flag = z
  .enum(['true', 'false', '1', '0', 'on', 'off'], 'must be true or false')
  .transform((word) => ['true', '1', 'on'].includes(word));
const integer = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d{1,10}$/, `must be a whole number from ${least} to ${most}`)
    .transform(Number)
    .refine((value) => value >= least && value <= most, `must be a whole number from ${least} to ${most}`);
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);
const origins = list.refine((texts) => texts.every(isOrigin), 'must be origins, such as https://app.example.com, without a path');
const networks = list
  .refine((texts) => texts.every(isNetwork), 'must be addresses or networks, such as 10.0.0.0/8, 2001:db8::/32')
  .transform(toBlockList);
const basePath = z
  .string()
  .regex(/^(?:\/(?!\.{1,2}(?:\/|$))[\w.~-]+)*\/?$/, 'must be a path such as /tasks/, of letters, digits and ".", "_", "~", "-"')
  .transform((path) => (path.endsWith('/') ? path : `${path}/`));
const key = z
  .string()
  .regex(/^[0-9a-fA-F]{64,}$/, 'must be at least 32 bytes in hexadecimal')
  .transform((text) => Buffer.from(text, 'hex'));

const command = z.string().transform((text, context) => {
  const [program, ...args] = wordsOf(text);
  if (program !== undefined && program !== '') return [program, ...args] as const;
  context.addIssue({ code: 'custom', message: 'must be a program and its arguments, with quotes in pairs' });
  return z.NEVER;
});

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

const environment = z.object({
  DATABASE_URL: z.string().transform(parseDatabaseUrl).optional(),
  DATABASE_PASSWORD_FILE: z.string().optional(),
  DATABASE_PASSWORD_COMMAND: command.optional(),
  DATABASE_REPLICA_URL: z.string().transform(parseDatabaseUrl).optional(),
  DATABASE_REPLICA_PASSWORD_FILE: z.string().optional(),
  DATABASE_REPLICA_PASSWORD_COMMAND: command.optional(),
  REPLICA_MAX_STALENESS_SECONDS: integer(2, 3600).default(10),
  CODER_DATABASE_URL: z
    .string()
    .refine(
      isPostgresUrl,
      'must look like postgres://user:password@host:5432/database, with %2F for a / in the password, %23 for a # and %25 for a %',
    )
    .optional(),
  CODER_POLL_SECONDS: integer(1, 3600).optional(),
  CODER_WITHOUT_SESSIONS: flag.default(false),
  CODER_IGNORE_COLUMNS: list
    .refine((names) => names.every((name) => /^[a-z0-9_]+\.[a-z0-9_]+$/.test(name)), 'must be columns, such as users.theme')
    .default([]),
  CODER_SLOT: z
    .string()
    .regex(/^[a-z_][a-z0-9_]{0,53}$/, 'must be up to 54 lower-case letters, digits and _, no digit first')
    .default('tasks_service'),
  CODER_DISABLE_WORKSPACE_SHARING: flag.default(false),
  CODER_URL: z.string().refine(isCoderUrl, 'must look like https://coder.example.com, without a user, ? or #').optional(),
  STATEMENT_TIMEOUT_MS: integer(10, 600_000).default(2000),
  DATABASE_POOL_SIZE: integer(1, 1000).default(10),
  MIGRATE_ON_START: flag.default(false),
  MIGRATE_TRIGGERS: flag.default(true),
  PROJECTOR: flag.default(true),
  DATA_DIR: z.string().default('.data'),
  CACHE_DIR: z.string().default('.cache'),
  HOST: z
    .string()
    .refine(isHost, 'must be an address or a name of this machine, such as 127.0.0.1, or 0.0.0.0 for all')
    .optional(),
  GRPC_PORT: integer(0, 65535).default(50051),
  WEB_PORT: integer(0, 65535).default(8080),
  OPS_PORT: integer(0, 65535).default(9090),
  TLS_CERT_FILE: z.string().optional(),
  TLS_KEY_FILE: z.string().optional(),
  TLS_CLIENT_CA_FILE: z.string().optional(),
  TRUSTED_PROXIES: networks.optional(),
  BASE_PATH: basePath.default('/'),
  WEB_ORIGINS: origins.default([]),
  IMAGE_ORIGINS: origins.default([]),
  REFLECTION: flag.optional(),
  RATE_LIMIT_PER_MINUTE: integer(0, 1_000_000).optional(),
  WATCHES_PER_CALLER: integer(1, 5000).default(100),
  AUTH_CACHE_SECONDS: integer(0, 3600).default(5),
  JWT_ISSUER: z.string().optional(),
  JWT_AUDIENCE: z.string().optional(),
  JWT_JWKS: z.string().refine(isKeySetPlace, 'must be a file, or an https address without a password').optional(),
  JWT_ROLES_CLAIM: z.string().optional(),
  AGENT_INACTIVE_SECONDS: integer(2, 86_400).default(30),
  PAGE_TOKEN_KEY: key.optional(),
  PAGE_TOKEN_KEY_OLD: key.optional(),
  LOG_LEVEL: z.enum(levels, `must be one of ${levels.join(', ')}`).default('info'),
});

/** Variables whose value is a secret: each can be read from a file instead, named by the variable with the suffix `_FILE`. */
const secrets = ['DATABASE_URL', 'DATABASE_REPLICA_URL', 'CODER_DATABASE_URL', 'PAGE_TOKEN_KEY', 'PAGE_TOKEN_KEY_OLD'] as const;

/** Every variable the service reads, in the order of the documentation. */
export const variables: readonly string[] = Object.keys(environment.shape);

/** The service's settings, read once at the start. docs/configuration.md has the table. */
export type Config = Readonly<z.output<typeof environment>>;

/**
 * Reads the settings from the environment. An empty variable counts as absent.
 *
 * @throws {ConfigError} that names every variable that is wrong, and why; never its value.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = [];
  const given: Record<string, string> = {};
  for (const name of variables) {
    const value = env[name];
    if (value !== undefined && value !== '') given[name] = value;
  }
  for (const name of secrets) {
    const path = env[`${name}_FILE`];
    if (path === undefined || path === '') continue;
    if (given[name] !== undefined) {
      problems.push(`${name} and ${name}_FILE: only one of them may be set`);
      continue;
    }
    try {
      const secret = readFileSync(path, 'utf8').trim();
      if (secret === '') problems.push(`${name}_FILE: the file is empty`);
      else given[name] = secret;
    } catch {
      problems.push(`${name}_FILE: the file cannot be read`);
    }
  }
  const parsed = environment.safeParse(given);
  for (const issue of parsed.error?.issues ?? []) problems.push(`${issue.path.join('.')}: ${issue.message}`);
  if ((given['TLS_CERT_FILE'] === undefined) !== (given['TLS_KEY_FILE'] === undefined)) {
    problems.push('TLS_CERT_FILE and TLS_KEY_FILE: one needs the other');
  } else if (given['TLS_CLIENT_CA_FILE'] !== undefined && given['TLS_CERT_FILE'] === undefined) {
    problems.push('TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE');
  }
  const jwt = ['JWT_ISSUER', 'JWT_AUDIENCE', 'JWT_JWKS'].filter((name) => given[name] !== undefined).length;
  if (jwt % 3 !== 0) problems.push('JWT_ISSUER, JWT_AUDIENCE and JWT_JWKS: each needs the others');
  else if (jwt === 0 && given['JWT_ROLES_CLAIM'] !== undefined) problems.push('JWT_ROLES_CLAIM: needs JWT_ISSUER');
  const ports = ['GRPC_PORT', 'WEB_PORT', 'OPS_PORT'] as const;
  for (const [index, name] of ports.entries()) {
    const port = portOf(given, name);
    const other = ports.slice(0, index).find((before) => portOf(given, before) === port);
    if (port !== 0 && port !== undefined && other !== undefined) problems.push(`${name}: is the same port as ${other}`);
  }
  const addresses = addressesOf(given, problems);
  if (problems.length > 0 || parsed.data === undefined) {
    throw new ConfigError(
      `the environment has ${problems.length} problem(s):\n${problems.map((line) => `  ${line}`).join('\n')}`,
    );
  }
  return { ...parsed.data, ...addresses };
}

/** The addresses of the databases with the sources of their passwords. */
function addressesOf(
  given: Readonly<Record<string, string>>,
  problems: string[],
): { DATABASE_URL?: DatabaseAddress; DATABASE_REPLICA_URL?: DatabaseAddress } {
  const addresses: ReturnType<typeof addressesOf> = {};
  for (const prefix of ['DATABASE', 'DATABASE_REPLICA'] as const) {
    const [url, file, command] = [`${prefix}_URL`, `${prefix}_PASSWORD_FILE`, `${prefix}_PASSWORD_COMMAND`] as const;
    const sources = [file, command].filter((name) => given[name] !== undefined);
    const [variable] = sources;
    if (variable === undefined) continue;
    const address = environment.shape[url].safeParse(given[url]).data;
    const words = environment.shape[command].safeParse(given[command]).data;
    const path = given[file];
    const password = path === undefined ? undefined : readText(path);
    if (given[url] === undefined) problems.push(`${variable}: needs ${url}`);
    else if (sources.length > 1) problems.push(`${file} and ${command}: only one of them may be set`);
    else if (address?.password !== undefined) problems.push(`${variable}: ${url} has a password, and only one may be set`);
    else if (path !== undefined && password === undefined) problems.push(`${variable}: the file cannot be read`);
    else if (password?.trim() === '') problems.push(`${variable}: the file is empty`);
    else if (address !== undefined && path !== undefined)
      addresses[url] = { ...address, passwordSource: { variable, file: path } };
    else if (address !== undefined && words !== undefined) {
      addresses[url] = { ...address, passwordSource: { variable, command: words } };
    }
  }
  return addresses;
}

/** Whether a text is an address, or a network in the notation of CIDR. */
function isNetwork(text: string): boolean {
  const [address = '', prefix, more] = text.split('/');
  const bits = { 4: 32, 6: 128 }[isIP(address)];
  return (
    bits !== undefined && more === undefined && (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
  );
}

function toBlockList(texts: readonly string[]): BlockList {
  const addresses = new BlockList();
  for (const text of texts) {
    const [address = '', prefix] = text.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (prefix === undefined) addresses.addAddress(address, family);
    else addresses.addSubnet(address, Number(prefix), family);
  }
  return addresses;
}

/** The database that the settings name. @throws {ConfigError} when they name none. */
export function requireDatabaseUrl({ DATABASE_URL: address }: Config): DatabaseAddress {
  if (address === undefined) throw new ConfigError('DATABASE_URL is required: mysql://user:password@host:3306/database');
  return address;
}

/** The address to listen on: all, but for the private database of a checkout this machine alone. */
export function listenHost({ HOST, DATABASE_URL }: Config): string {
  return HOST ?? (DATABASE_URL === undefined ? '127.0.0.1' : '0.0.0.0');
}

/** Coder's database, as the settings name it. @throws {ConfigError} when they name none. */
export function requireCoderDatabaseUrl({ CODER_DATABASE_URL: url }: Config): string {
  if (url === undefined) throw new ConfigError('CODER_DATABASE_URL is required: postgres://user:password@host:5432/coder');
  return url;
}

/** Whether a text is the address of a database of PostgreSQL. Its parameters are for the driver to read. */
function isPostgresUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && (url.protocol === 'postgres:' || url.protocol === 'postgresql:') && url.pathname.length > 1;
}

function portOf(given: Readonly<Record<string, string>>, name: 'GRPC_PORT' | 'WEB_PORT' | 'OPS_PORT'): number | undefined {
  return environment.shape[name].safeParse(given[name]).data;
}

const parameters: readonly string[] = ['ssl', 'ca', 'cert', 'key', 'socket'];

/** The values of the parameter `ssl`. */
const sslModes: Readonly<Record<string, DatabaseAddress['ssl']>> = {
  true: 'verify',
  'verify-identity': 'verify',
  'verify-ca': 'verify-ca',
  'no-verify': 'no-verify',
  false: undefined,
};

/**
 * Parses `mysql://user:password@host:3306/database`, with `?ssl=true` for TLS, `?ssl=verify-ca` for TLS that accepts any host
 * name in the certificate, `?ssl=no-verify` for TLS that accepts any certificate, `&ca=/path` for other authorities,
 * `&cert=/path&key=/path` for a client certificate, or `?socket=/path` for a Unix socket.
 */
function parseDatabaseUrl(text: string, context: z.RefinementCtx): DatabaseAddress {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  const url = URL.parse(text);
  if (url === null || url.protocol !== 'mysql:') return fail('must look like mysql://user:password@host:3306/database');
  const [database, user, password] = [url.pathname.slice(1), url.username, url.password].map(decode);
  if (database === undefined || user === undefined || password === undefined) {
    return fail('has a "%" that is not followed by two hexadecimal digits: write a percent sign as %25');
  }
  if (database === '') return fail('must name a database: mysql://user:password@host:3306/database');
  for (const name of url.searchParams.keys()) {
    if (!parameters.includes(name)) return fail(`has an unknown parameter "${name}"; known are ${parameters.join(', ')}`);
    if (url.searchParams.getAll(name).length > 1) return fail(`has the parameter "${name}" twice`);
  }
  const [mode, caFile, certFile, keyFile, socketPath] = parameters.map((name) => url.searchParams.get(name) ?? undefined);
  if (mode !== undefined && !Object.hasOwn(sslModes, mode)) return fail(`ssl must be ${Object.keys(sslModes).join(', ')}`);
  const ssl = sslModes[mode ?? 'false'];
  if (caFile !== undefined && (ssl === undefined || ssl === 'no-verify')) return fail('ca goes with ssl=true or ssl=verify-ca');
  if (caFile === undefined && ssl === 'verify-ca')
    return fail('ssl=verify-ca needs ca: of a known authority anybody has a certificate');
  if ((certFile === undefined) !== (keyFile === undefined)) return fail('cert and key: one needs the other');
  if (certFile !== undefined && ssl === undefined) return fail('cert and key go with ssl=true, ssl=verify-ca or ssl=no-verify');
  for (const [name, file] of Object.entries({ ca: caFile, cert: certFile, key: keyFile })) {
    const what = name === 'key' ? 'PRIVATE KEY' : 'CERTIFICATE';
    if (file !== undefined && !new RegExp(`-----BEGIN [A-Z ]*${what}-----`).test(readText(file) ?? '')) {
      return fail(`${name} must be a file with ${name === 'key' ? 'a private key' : 'certificates'} in PEM`);
    }
  }
  const host = url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  // For an IP address the driver would verify the certificate against the name localhost.
  if (ssl === 'verify' && socketPath === undefined && isIP(host) !== 0) {
    return fail('ssl=true needs the name of a host, no address; ssl=verify-ca does not');
  }
  if (url.port === '0') return fail('has the port 0, on which nothing can be');
  return {
    ...(socketPath === undefined ? { host, port: Number(url.port || 3306) } : { socketPath }),
    user: user || 'root',
    ...(password === '' ? {} : { password }),
    database,
    ...(ssl === undefined ? {} : { ssl }),
    ...(caFile === undefined ? {} : { caFile }),
    ...(certFile === undefined ? {} : { certFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
  };
}

/** The words of a command, separated by spaces unless quoted; undefined if a quote is not closed. */
function wordsOf(text: string): string[] {
  if (/["']/.test(text.replace(/"[^"]*"|'[^']*'/g, ''))) return [];
  const words = text.match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? [];
  return words.map((word) => word.replace(/"([^"]*)"|'([^']*)'/g, '$1$2'));
}

/** Whether a text is an IP address or a valid host name. */
function isHost(text: string): boolean {
  return isIP(text) !== 0 || (/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text) && !/^[\d.]+$/.test(text));
}

/** Whether a text is an origin the way browsers send it: scheme, host, and port if it is not the scheme's own. */
function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  // URLs allow characters in a host, such as ";", that have a meaning in the header that an origin is written to.
  return url !== null && /^https?:\/\/[\w.:[\]-]+$/.test(text) && url.origin === text;
}

/** Whether keys may be fetched from an address: over clear text anyone could replace them, except on this machine. */
function isKeySetPlace(text: string): boolean {
  if (!/^[a-z]+:\/\//i.test(text)) return true;
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname));
}

function isCoderUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || /[?#]/.test(text)) return false;
  return url.username === '' && url.password === '';
}

/** The text of a file; undefined if it cannot be read. */
function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
