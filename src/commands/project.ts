import type { Config, DatabaseAddress } from '../config.ts';
import type { Database } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import { createLog } from '../platform/log.ts';
import { version } from '../platform/process-metrics.ts';
import { aborted, stopSignal } from '../platform/stop-signal.ts';
import { openTracing } from '../platform/tracing.ts';
import { createProjector } from '../projection/projector.ts';
import { projectAll, retryDeadLetters } from '../projection/rebuild.ts';
import { describeInconsistency, verify } from '../projection/verify.ts';
import { CommandError } from './command-error.ts';
import { progressBar } from './progress-bar.ts';

/** Runs a projector until SIGINT or SIGTERM. */
export async function followChanges(_database: Database, config: Config, address: DatabaseAddress): Promise<void> {
  const stop = stopSignal();
  const log = createLog(config.LOG_LEVEL);
  const tracing = await openTracing(process.env, version);
  const projector = createProjector({ address, log, ...(tracing === undefined ? {} : { onBatch: tracing.batch }) });
  projector.start();
  log.info('following the changes');
  await aborted(stop);
  await projector.stop();
  await tracing?.close();
}

/**
 * Rebuilds the read model from the source tables, while it is in use.
 *
 * @throws {CommandError} when some workspaces cannot be projected; all others are.
 */
export async function rebuildReadModel(database: Database): Promise<void> {
  const [row] = (await database.from('workspaces').count({ count: '*' })) as { count: number }[];
  const bar = progressBar(process.stderr);
  const { workspaces, changed, deadLetters } = await projectAll(database, {
    onProgress: (done) => bar.show(done, row?.count ?? done),
  });
  bar.end();
  console.log(`${workspaces} workspaces compared; ${changed} tasks inserted, updated or deleted`);
  if (deadLetters > 0)
    throw new CommandError(`${deadLetters} workspaces cannot be projected: see workspace_changes_failed for the errors`);
}

/**
 * Tries to project the workspaces in `workspace_changes_failed` again, and prints which of them still cannot be.
 *
 * @throws {CommandError} when there are any.
 */
export async function retryFailedWorkspaces(database: Database): Promise<void> {
  const { tried, left } = await retryDeadLetters(database);
  for (const { ref, error } of left) console.log(`${formatUuid(ref)}: ${error}`);
  console.log(`${tried} workspaces tried again; ${tried - left.length} projected`);
  if (left.length > 0) throw new CommandError(`${left.length} workspaces still cannot be projected`);
}

/**
 * Prints every difference between the read model and the source tables.
 *
 * @throws {CommandError} when there are any.
 */
export async function verifyReadModel(database: Database): Promise<void> {
  const count = await verify(database, (difference) => console.log(describeInconsistency(difference)));
  if (count > 0) throw new CommandError(`${count} differences found`);
  console.log('no differences');
}
