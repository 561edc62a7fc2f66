import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate with its key, as PEM files. */
export interface IssuedCertificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** An authority of a test. */
export interface Authority {
  readonly certFile: string;
  readonly cert: Buffer;
  /** Makes a certificate, good for both ends, for the names as in `DNS:localhost`. One of negative days is expired. */
  issue(name: string, options?: { readonly names?: readonly string[]; readonly days?: number }): IssuedCertificate;
}

const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'] as const;

/** Makes an authority with its files in a folder. Certificates are made by the `openssl` command. */
export function makeAuthority(folder: string, name: string): Authority {
  const file = (what: string): string => join(folder, `${name}-${what}`);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const [caFile, caKey] = [file('ca.pem'), file('ca-key.pem')];
  openssl('req', '-x509', ...key, '-keyout', caKey, '-out', caFile, '-days', '30', '-subj', `/CN=${name}`);
  return {
    certFile: caFile,
    cert: readFileSync(caFile),
    issue(subject, { names = ['DNS:localhost', 'IP:127.0.0.1'], days = 20 } = {}) {
      const [certFile, keyFile, request, extensions] = ['.pem', '-key.pem', '.csr', '.ext'].map((end) => file(subject + end)) as [
        string,
        string,
        string,
        string,
      ];
      openssl('req', '-new', ...key, '-keyout', keyFile, '-out', request, '-subj', `/CN=${subject}`);
      writeFileSync(extensions, `subjectAltName=${names.join(',')}\nextendedKeyUsage=serverAuth,clientAuth\n`);
      const signed = ['-CA', caFile, '-CAkey', caKey, '-CAcreateserial', '-extfile', extensions, '-days', String(days)];
      openssl('x509', '-req', '-in', request, '-out', certFile, ...signed);
      return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
    },
  };
}
