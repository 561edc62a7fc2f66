import { constants, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type Server, type TlsOptions } from 'node:tls';
import { ConfigError } from '../config.ts';
import type { Logger } from '../platform/log.ts';

/** The PEM files of TLS_CERT_FILE, TLS_KEY_FILE and TLS_CLIENT_CA_FILE. */
export interface CertificateFiles {
  /** The server's certificate, and behind it those that lead to its authority. */
  readonly cert: string;
  readonly key: string;
  /** The authorities whose clients are let in. Without it clients show no certificate. */
  readonly clientCa?: string | undefined;
}

/** The TLS of a port, from the present content of the files. */
export interface Certificates {
  /** The options of a TLS server, except its protocols. */
  readonly options: TlsOptions;
  /** When the certificate in use expires. */
  readonly expiresAt: Date;
  /** Keeps a server's certificate up to date, and logs the handshakes that fail on it. */
  follow(server: Server): void;
  /** Stops checking the files. */
  close(): void;
}

/** How often the files are checked, in milliseconds. They change every few weeks, and are small. */
const lookEveryMs = 5000;

/**
 * The TLS options that do not depend on the files: TLS 1.3, and TLS 1.2 only with forward secrecy and authenticated encryption, as
 * HTTP/2 demands (RFC 9113, 9.2.2).
 */
const protocol: TlsOptions = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
  // As long as an HTTP/1.1 client may take for its headers. Node's default is two minutes.
  handshakeTimeout: 10_000,
};

/**
 * Reads the certificate, and reads it again while the program runs: new files are used for new connections within seconds. Files
 * that do not fit together are not used: an error is logged, and the former certificate stays in use.
 *
 * @throws {ConfigError} when the files cannot be used at the start.
 */
export function createCertificates(files: CertificateFiles, log: Logger, everyMs: number = lookEveryMs): Certificates {
  const servers = new Set<Server>();
  const names = { cert: 'TLS_CERT_FILE', key: 'TLS_KEY_FILE', clientCa: 'TLS_CLIENT_CA_FILE' } as const;
  const paths = Object.entries({ ...files }).filter(([, path]) => path !== undefined) as [keyof CertificateFiles, string][];

  let seen = new Map(
    paths.map(([kind, path]) => {
      try {
        return [kind, readFileSync(path)];
      } catch {
        throw new ConfigError(`${names[kind]}: the file cannot be read`);
      }
    }),
  );
  let current = check(seen);
  const warnIfExpired = (): void => {
    if (current.expiresAt.getTime() < Date.now()) log.warn({ expiresAt: current.expiresAt }, 'the TLS certificate has expired');
  };
  warnIfExpired();

  const look = async (): Promise<void> => {
    const read = new Map(await Promise.all(paths.map(async ([kind, path]) => [kind, await readFile(path)] as const)));
    if ([...read].every(([kind, bytes]) => seen.get(kind)?.equals(bytes) === true)) return;
    seen = read; // an error is logged once
    current = check(read);
    for (const server of servers) server.setSecureContext(current.options);
    log.info({ expiresAt: current.expiresAt }, 'the new TLS certificate is in use');
    warnIfExpired();
  };
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look()
      .catch((error: unknown) => log.error({ err: error }, 'the TLS files cannot be used, and the former certificate stays'))
      .finally(() => {
        looking = false;
      });
  }, everyMs).unref();

  return {
    get options() {
      return current.options;
    },
    get expiresAt() {
      return current.expiresAt;
    },
    follow(server) {
      servers.add(server);
      server.once('close', () => servers.delete(server));
      server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
        const { remoteAddress, remotePort, authorizationError } = socket;
        // Probes connect and hang up, which is not logged. A client whose certificate is refused is disconnected; the reason is
        // only here.
        const level = error.code === 'ECONNRESET' && !authorizationError ? 'debug' : 'info';
        const why = authorizationError ?? error.code;
        log[level]({ peer: `${remoteAddress}:${remotePort}`, why }, 'a TLS handshake failed');
      });
    },
    close() {
      clearInterval(timer);
    },
  };
}

/** Checks that the files fit together, and returns the TLS options made from them. */
function check(read: ReadonlyMap<keyof CertificateFiles, Buffer>): Pick<Certificates, 'options' | 'expiresAt'> {
  const [cert, key, ca] = [read.get('cert'), read.get('key'), read.get('clientCa')];
  if (cert === undefined || key === undefined) throw new ConfigError('TLS_CERT_FILE and TLS_KEY_FILE are required together');
  const [shown] = parseCertificates('TLS_CERT_FILE', cert);
  if (ca !== undefined) parseCertificates('TLS_CLIENT_CA_FILE', ca);
  const options: TlsOptions = {
    ...protocol,
    cert,
    key,
    ...(ca === undefined
      ? {}
      : {
          ca,
          requestCert: true,
          rejectUnauthorized: true,
          // A resumed session presents no certificate, and each connection must.
          secureOptions: constants.SSL_OP_NO_TICKET,
        }),
  };
  if (!shown.checkPrivateKey(parseKey(key))) throw new ConfigError('TLS_KEY_FILE: is not the key of the certificate');
  createSecureContext(options);
  return { options, expiresAt: new Date(shown.validTo) };
}

function parseCertificates(name: string, pem: Buffer): [X509Certificate, ...X509Certificate[]] {
  const blocks = pem.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  try {
    const [first, ...rest] = blocks.map((block) => new X509Certificate(block));
    if (first !== undefined) return [first, ...rest];
  } catch {
    // Below.
  }
  throw new ConfigError(`${name}: is no certificate in PEM`);
}

function parseKey(pem: Buffer): ReturnType<typeof createPrivateKey> {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new ConfigError('TLS_KEY_FILE: is no private key in PEM, or one with a passphrase');
  }
}
