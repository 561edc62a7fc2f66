import { Registry } from 'prom-client';
import type { Config, DatabaseAddress } from '../config.ts';
import { requireCoderDatabaseUrl } from '../config.ts';
import { ActiveLease } from '../db/active-process.ts';
import { closeDatabase, type Database } from '../db/connection.ts';
import { createLog } from '../platform/log.ts';
import { aborted, stopSignal } from '../platform/stop-signal.ts';
import { openCoderDatabase } from '../sync/coder-database.ts';
import { copyOnce } from '../sync/copy-once.ts';
import { createMeasuredSync } from '../sync/measured-sync.ts';
import { describeSlot, readSlot } from '../sync/replication-standing.ts';
import { copyScopeOf, readSourceShape } from '../sync/source-version.ts';
import { countAdjusted, describeSync, openSyncDatabase } from '../sync/sync.ts';
import { readSyncState, takeOverSync } from '../sync/sync-state.ts';
import { verifyCopy } from '../sync/verify-copy.ts';
import { CommandError } from './command-error.ts';
import { progressBar } from './progress-bar.ts';
import { openSyncPort } from './sync-port.ts';

/**
 * Copies Coder's tables, and exits.
 *
 * @throws {CommandError} while another process copies.
 */
export async function copyFromCoder(config: Config, address: DatabaseAddress, withoutSessions: boolean): Promise<void> {
  const url = requireCoderDatabaseUrl(config);
  const database = openSyncDatabase(address);
  const lease = new ActiveLease(address, 'sync');
  try {
    if (!(await takeWithin(lease, database))) {
      throw new CommandError(
        'another process keeps this copy, a serve with CODER_DATABASE_URL or a sync --follow: it copies by itself, or stop it first',
      );
    }
    const coder = await openCoderDatabase(url);
    const bar = progressBar(process.stderr);
    try {
      const adjusted = countAdjusted();
      const scope = copyScopeOf(config, withoutSessions);
      const shape = await readSourceShape(coder, scope, adjusted.add);
      console.log(shape.version);
      const state = await takeOverSync(database);
      await copyOnce(
        {
          url,
          coder,
          database,
          shape,
          scope,
          signal: lease.lost,
          onCopy() {},
          onProgress: (rows, about) => bar.show(rows, about),
          onCopied({ rows, inserted, updated, deleted }) {
            bar.end();
            console.log(`${rows} rows compared; ${inserted} inserted, ${updated} updated, ${deleted} deleted`);
          },
          onFollowing() {},
          onApplied() {},
        },
        state,
      );
      adjusted.tell(createLog(config.LOG_LEVEL));
    } finally {
      await coder.close();
    }
  } finally {
    await lease.release();
    await closeDatabase(database);
  }
}

/** How long to wait for a lease, in milliseconds: that of a process that was killed runs out meanwhile. */
const takeWithinMs = 5000;

async function takeWithin(lease: ActiveLease, database: Database): Promise<boolean> {
  const until = performance.now() + takeWithinMs;
  while (!(await lease.take(database))) if (performance.now() > until) return false;
  return true;
}

/**
 * Copies Coder's tables and follows their changes, or polls them, until SIGINT or SIGTERM. One process is active, others stand by.
 *
 * @param hasPort whether it has an operators' port.
 * @throws {PortError} when that cannot be opened.
 */
export async function followCoder(
  database: Database,
  config: Config,
  address: DatabaseAddress,
  { withoutSessions, hasPort }: { readonly withoutSessions: boolean; readonly hasPort: boolean },
): Promise<void> {
  const stop = stopSignal();
  const url = requireCoderDatabaseUrl(config);
  const log = createLog(config.LOG_LEVEL);
  const bar = progressBar(process.stderr);
  const registry = new Registry();
  const sync = createMeasuredSync(config, registry, {
    address,
    url,
    log,
    scope: copyScopeOf(config, withoutSessions),
    onProgress: (rows, about) => bar.show(rows, about),
    onCopied: () => bar.end(),
  });
  const port = hasPort ? await openSyncPort({ config, database, sync, registry }) : undefined;
  if (port !== undefined) log.info({ ops: port.address }, 'listening');
  sync.start();
  await aborted(stop);
  await sync.stop();
  await port?.close();
}

/** How long a difference has to last until it counts, in milliseconds, while changes are followed. */
const patienceMs = 10_000;

/**
 * Prints every difference between Coder's tables and their copy.
 *
 * @throws {CommandError} when there are any.
 */
export async function verifyCopyOfCoder(database: Database, config: Config, withoutSessions: boolean): Promise<void> {
  const coder = await openCoderDatabase(requireCoderDatabaseUrl(config));
  try {
    const shape = await readSourceShape(coder, copyScopeOf(config, withoutSessions));
    const { mode } = await readSyncState(database);
    const isLive = mode === 'replication' || mode === 'polling';
    const count = await verifyCopy({ coder, database, shape, patienceMs: isLive ? patienceMs : 0 }, (line) => console.log(line));
    if (count > 0) throw new CommandError(`${count} differences found`);
    console.log('no differences');
  } finally {
    await coder.close();
  }
}

/** Prints how the copy is doing, whichever process keeps it, and the slot of Coder's PostgreSQL. */
export async function printSyncStatus(database: Database, config: Config): Promise<void> {
  for (const line of await describeSync(database)) console.log(line);
  if (config.CODER_DATABASE_URL === undefined) return;
  const coder = await openCoderDatabase(config.CODER_DATABASE_URL);
  try {
    const slot = await readSlot(coder, config.CODER_SLOT);
    for (const line of describeSlot(config.CODER_SLOT, slot)) console.log(line);
  } finally {
    await coder.close();
  }
}
