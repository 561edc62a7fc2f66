import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { loadDemo } from './demo.ts';
import { writeDemoHistory } from './demo-history.ts';

/** The demo users who get a token. The user `suspended` could not use one. */
const signedIn = ['admin', 'developer', 'teammate', 'outsider'] as const;

/** The name and the lifetime of the demo's session tokens. */
const tokenName = 'demo';
const tokenLifetimeSeconds = 365 * 86_400;

/** How long the tokens of earlier starts are kept: a restart signs nobody out. */
const keptMs = 86_400_000;

/**
 * Loads the demo data if it is missing, and creates a session token for each demo user; those of starts of more
 * than a day ago are deleted.
 * Returns the tokens by username.
 */
export async function prepareDemo(address: DatabaseAddress): Promise<Record<string, string>> {
  // Not the service's pool: its statement limit is for calls, not for the first load.
  const database = openDatabase(address, { size: 2, statementTimeoutMs: 0 });
  try {
    if (await loadDemo(database, { now: new Date() })) {
      await projectAll(database);
      await writeDemoHistory(database);
    }
    const old = new Date(Date.now() - keptMs);
    await database('api_keys').where('api_keys.token_name', tokenName).where('api_keys.created_at', '<', old).delete();
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
