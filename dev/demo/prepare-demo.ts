import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { loadDemo } from './demo.ts';

/** The demo users who get a token. `suspended` is one who would not be let in with it. */
const signedIn = ['admin', 'developer', 'teammate', 'outsider'] as const;

/** What the demo's tokens are called among the session tokens, and how long they are valid: longer than a demo runs. */
const tokenName = 'demo';
const tokenLifetimeSeconds = 365 * 86_400;

/**
 * Loads the demo data if they are not there, and makes a fresh session token for each demo user; those of the last start stop
 * working. Returns the tokens by username.
 */
export async function prepareDemo(address: DatabaseAddress): Promise<Record<string, string>> {
  // Not the service's pool: its statement limit is for calls, not for the first load.
  const database = openDatabase(address, { size: 2, statementTimeoutMs: 0 });
  try {
    if (await loadDemo(database, { now: new Date() })) await projectAll(database);
    await database('api_keys').where('api_keys.token_name', tokenName).delete();
    const keys = createApiKeyRepository(database);
    const tokens: Record<string, string> = {};
    for (const username of signedIn) {
      const token = await keys.create(username, { lifetimeSeconds: tokenLifetimeSeconds, name: tokenName });
      if (token !== undefined) tokens[username] = token;
    }
    return tokens;
  } finally {
    await closeDatabase(database);
  }
}
