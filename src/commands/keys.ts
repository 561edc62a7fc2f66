import { createApiKeyRepository } from '../auth/api-key-repository.ts';
import type { Database } from '../db/connection.ts';
import { CommandError } from './command-error.ts';

/** Creates a session token and prints it, alone on a line for scripts. */
export async function createKey(
  database: Database,
  { user, days, name }: { readonly user: string; readonly days: number; readonly name: string },
): Promise<void> {
  const token = await createApiKeyRepository(database).create(user, { lifetimeSeconds: days * 86_400, name });
  if (token === undefined) throw new CommandError(`no user "${user}"`);
  console.log(token);
}

/** Prints session tokens, one a line: id, username, expiry and name. */
export async function listKeys(database: Database, user: string | undefined): Promise<void> {
  for (const key of await createApiKeyRepository(database).list(user)) {
    console.log([key.id, key.username, `until ${key.expires_at.slice(0, 19)}`, key.token_name].join('\t'));
  }
}

/** Deletes a session token by its id, or by the whole token. */
export async function revokeKey(database: Database, id: string): Promise<void> {
  if (!(await createApiKeyRepository(database).revoke(id.split('-')[0] ?? id))) throw new CommandError('no such session token');
}
