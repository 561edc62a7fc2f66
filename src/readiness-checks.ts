import type { Config } from './config.ts';
import { readLease } from './db/active-process.ts';
import type { Database } from './db/connection.ts';
import { errnoOf } from './db/database-errors.ts';
import type { Replica } from './db/replica.ts';
import type { ReadinessCheck } from './platform/readiness.ts';
import { countDeadLetters } from './projection/dead-letters.ts';
import { projectionStallMs } from './schema/outbox.ts';
import { missingTriggers } from './schema/triggers.ts';
import { readSyncState, whyNotLive } from './sync/sync-state.ts';

/**
 * When changes are pending and nothing has been projected for this long, in milliseconds, answers are too old to be served. A long
 * queue by itself is no reason while the projector works: `migrate up` notes every workspace.
 */
const maxStallMs = 30_000;

/** How long the result that all triggers exist is cached, in milliseconds: they are only ever dropped by hand. */
const triggersRememberedMs = 60_000;

/** The server's error number for a missing right on a table, as of an account with the grants of an older version. */
const noRight = 1142;

/** The readiness checks of the service, by part. */
export function readinessChecks(
  database: Database,
  { MIGRATE_TRIGGERS: withTriggers, CODER_DATABASE_URL: coder }: Pick<Config, 'MIGRATE_TRIGGERS' | 'CODER_DATABASE_URL'>,
  replica: Replica | undefined,
  whyNotServing?: () => string | undefined,
): Record<string, ReadinessCheck> {
  let triggersSeenAt = Number.NEGATIVE_INFINITY;
  const leaseAgeMs = leaseWatch(database);
  return {
    async database() {
      await database.raw('select 1');
      const why = whyNotServing?.();
      if (why !== undefined) throw new Error(why);
    },
    async projection() {
      const stallMs = await projectionStallMs(database);
      if (stallMs > maxStallMs) throw new Error(`changes wait, and none was projected for ${Math.round(stallMs / 1000)} s`);
      const ageMs = await leaseAgeMs();
      if (ageMs > maxStallMs) {
        const seconds = Math.round(ageMs / 1000);
        throw new Error(`the projector has not renewed its lease for ${seconds} s: it died, or this server is not up to date`);
      }
      const deadLetters = await countDeadLetters(database).catch((error: unknown) => {
        if (errnoOf(error) === noRight) return 0;
        throw error;
      });
      if (deadLetters === 0) return;
      return `dead letters: ${deadLetters} ${deadLetters === 1 ? 'workspace' : 'workspaces'} that cannot be projected, see workspace_changes_failed`;
    },
    ...(withTriggers
      ? {
          async triggers() {
            if (performance.now() - triggersSeenAt < triggersRememberedMs) return;
            const missing = await missingTriggers(database);
            if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}; run "migrate up"`);
            triggersSeenAt = performance.now();
          },
        }
      : {}),
    ...(coder === undefined
      ? {}
      : {
          async sync() {
            return whyNotLive(await readSyncState(database)); // the copy is served all the same
          },
        }),
    ...(replica === undefined
      ? {}
      : {
          async replica() {
            const why = replica.whyNot();
            return why === undefined ? undefined : `not used: ${why}`; // the primary answers instead
          },
        }),
  };
}

/**
 * Returns what asks for how long the lease of the projector has been seen unchanged, in milliseconds by the clock of this process; 0
 * when its last holder ended in order. It tells of a server that shows nothing new, too, as a node that has left its cluster.
 */
function leaseWatch(database: Database): () => Promise<number> {
  let seen: { readonly state: string; readonly at: number } | undefined;
  return async () => {
    const lease = await readLease(database, 'project').catch((error: unknown) => {
      if (errnoOf(error) === noRight) return undefined;
      throw error;
    });
    if (lease === undefined || lease.holder === null) return 0;
    const state = `${lease.holder} ${lease.renewals}`;
    if (seen?.state !== state) seen = { state, at: performance.now() };
    return performance.now() - seen.at;
  };
}
