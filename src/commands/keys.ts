import { createApiKeyRepository } from '../auth/api-key-repository.ts';
import type { Database } from '../db/connection.ts';
import { CommandError } from './command-error.ts';

/** Makes a session token and prints it, alone on a line, so that a script can take it. */
export async function createKey(
  database: Database,
  { user, days, name }: { readonly user: string; readonly days: number; readonly name: string },
): Promise<void> {
  const token = await createApiKeyRepository(database).create(user, { lifetimeSeconds: days * 86_400, name });
  if (token === undefined) throw new CommandError(`there is no user "${user}"`);
  console.log(token);
}

/** Prints the ids of session tokens, one a line, with whose and what for they are and until when they are valid. */
export async function listKeys(database: Database, user: string | undefined): Promise<void> {
  for (const key of await createApiKeyRepository(database).list(user)) {
    console.log([key.id, key.username, `until ${key.expires_at.slice(0, 19)}`, key.token_name].join('\t'));
  }
}

/** Deletes a session token by its id. A whole token is taken as well, since that is what people have at hand. */
export async function revokeKey(database: Database, id: string): Promise<void> {
  if (!(await createApiKeyRepository(database).revoke(id.split('-')[0] ?? id))) throw new CommandError('there is no such token');
}
