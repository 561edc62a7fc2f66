import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { openCoderDatabase } from '../../src/sync/coder-database.ts';
import { compareTable, describeKey } from '../../src/sync/compare-tables.ts';
import { grantStatements, replicationNames } from '../../src/sync/publication.ts';
import { keepByReplication, type ReplicationSettings } from '../../src/sync/replicate.ts';
import { readSourceShape } from '../../src/sync/source-version.ts';
import { openSyncDatabase, type SyncContext } from '../../src/sync/sync.ts';
import { takeOverSync } from '../../src/sync/sync-state.ts';

/** The role that the tests copy and follow with. */
export const coderReader = { user: 'tasks_reader', password: 'reads-only' } as const;

/** The slot of the tests, which has the name of the setting's default. */
export const coderSlot = 'tasks_service';

/** One attempt to copy and follow, as the service makes it. */
export interface Attempt {
  /** What has happened: `copy: why`, `copied`, `following`, `applied 3`. */
  readonly events: readonly string[];
  /** Resolves when it was stopped; rejects when it failed. */
  readonly ended: Promise<void>;
  /** Resolves when something has happened; rejects when the attempt ends before. */
  until(event: string): Promise<void>;
  stop(): Promise<void>;
}

/** Runs what `sync grants` prints, and gives the role a password. */
export async function allowReplication(coder: Client, slot: string, role: { user: string; password: string }): Promise<void> {
  for (const statement of grantStatements({ role: role.user, database: 'coder', names: replicationNames(slot) })) {
    await coder.query(statement);
  }
  await coder.query(`alter role ${role.user} password '${role.password}'`);
}

/** Copies and follows a Coder until it is stopped or fails, without a lease, as a process that does not know that it has lost it. */
export function startReplicating(
  url: string,
  address: DatabaseAddress,
  slot: string,
  settings: Pick<ReplicationSettings, 'checkEveryMs' | 'silenceMs'> = {},
): Attempt {
  const stopping = new AbortController();
  const { signal } = stopping;
  const events: string[] = [];
  const keep = keepByReplication({
    ...settings,
    names: replicationNames(slot),
    onApplied: ({ transactions, changes }) => events.push(`applied ${transactions} ${changes}`),
  });
  const run = async (): Promise<void> => {
    const database = openSyncDatabase(address);
    try {
      const coder = await openCoderDatabase(url);
      try {
        const context: SyncContext = {
          url,
          coder,
          database,
          shape: await readSourceShape(coder),
          scope: {},
          signal,
          onCopy: (why) => events.push(`copy: ${why}`),
          onProgress() {},
          onCopied: ({ inserted, updated, deleted }) => events.push(`copied ${inserted} ${updated} ${deleted}`),
          onFollowing: () => events.push('following'),
          onApplied() {},
        };
        await keep(context, await takeOverSync(database));
      } finally {
        await coder.close();
      }
    } finally {
      await closeDatabase(database);
    }
  };
  const ended = run();
  ended.catch(() => {});
  return {
    events,
    ended,
    async until(event) {
      let isOver = false;
      void ended.catch(() => {}).then(() => (isOver = true));
      while (!events.some((one) => one.startsWith(event))) {
        if (isOver) {
          await ended;
          throw new Error(`it ended before ${event}: ${events.join(', ')}`);
        }
        await sleep(10);
      }
    },
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}

/** What differs between a Coder and its copy: a line for each row. */
export async function differences(url: string, address: DatabaseAddress): Promise<string[]> {
  const coder = await openCoderDatabase(url);
  const database = openDatabase(address, { size: 1, statementTimeoutMs: 0, acquireTimeoutMs: 30_000 });
  try {
    const found: string[] = [];
    const { plans } = await readSourceShape(coder);
    await coder.inSnapshot(async () => {
      for (const plan of plans) {
        const { table } = plan;
        for await (const { missing, changed, extra } of compareTable(coder, database, plan)) {
          for (const row of missing) found.push(`${table.name} ${describeKey(table, row)}: missing`);
          for (const row of extra) found.push(`${table.name} ${describeKey(table, row)}: extra`);
          for (const { row, column } of changed) found.push(`${table.name} ${describeKey(table, row)}: ${column}`);
        }
      }
    });
    return found;
  } finally {
    await closeDatabase(database);
    await coder.close();
  }
}
