import { type AuthPlugin, authPlugins } from 'mysql2';
import type { DatabaseAddress } from '../config.ts';

/** Authentication plugins that the driver does not support, by the server's name for them, and what an account can use instead. */
const unsupported: readonly string[] = [
  'parsec',
  'dialog',
  'auth_gssapi_client',
  'authentication_kerberos_client',
  'authentication_ldap_sasl_client',
  'authentication_oci_client',
  'authentication_openid_connect_client',
  'authentication_webauthn_client',
  'authentication_windows_client',
];

/**
 * The authentication plugins beside those built into the driver (`caching_sha2_password`, `sha256_password`,
 * `mysql_native_password`, and Unix sockets, for which nothing is sent). An unsupported plugin fails with one clear line.
 */
export function authPluginsFor({ ssl, socketPath }: DatabaseAddress): Readonly<Record<string, AuthPlugin>> {
  const isGuarded = socketPath !== undefined || ssl === 'verify' || ssl === 'verify-ca';
  return {
    ...Object.fromEntries(
      unsupported.map((name) => [
        name,
        refuse(
          `the account signs in by "${name}", which this service cannot: give the account a password by caching_sha2_password or ed25519, a client certificate, or unix_socket`,
        ),
      ]),
    ),
    client_ed25519:
      ({ connection }) =>
      async (scramble) => {
        const { signEd25519 } = await import('./ed25519.ts'); // loaded only for accounts that use it
        return signEd25519(connection.config.password ?? '', scramble.subarray(0, 32));
      },
    mysql_clear_password: isGuarded
      ? authPlugins.mysql_clear_password({})
      : refuse(
          'the server asks for the password in clear text (mysql_clear_password), which is only sent over TLS with a checked certificate: set ssl=true or ssl=verify-ca',
        ),
  };
}

function refuse(why: string): AuthPlugin {
  return () => {
    throw new Error(why);
  };
}
