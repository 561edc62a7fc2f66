import type { Database } from '../db/connection.ts';
import { changeKinds } from '../schema/noted-tables.ts';
import { workspaceIdsAfter } from '../schema/outbox.ts';
import { parkChange, unparkWorkspaces, workOrPark } from './failed-changes.ts';
import { startGeneration, writeReadModel } from './feed.ts';
import { projectWorkspaces } from './read-model.ts';

/** How a rebuild tells how it went. */
export interface RebuildOptions {
  /** Called after each transaction with the number of workspaces that are done. */
  readonly onProgress?: (workspaces: number) => void;
}

/** What a rebuild did. */
export interface Rebuilt {
  /** Workspaces that were looked at. */
  readonly workspaces: number;
  /** Tasks whose row was made, changed or removed. */
  readonly changed: number;
  /** Workspaces that could not be projected, and are in `workspace_changes_failed`. */
  readonly parked: number;
}

/** Workspaces in one transaction: the active projector waits meanwhile, for two seconds at most. */
const workspacesPerTransaction = 200;

/**
 * Makes the whole read model what the source tables say, and removes what does not belong to it. For after a restore, after a time
 * without triggers, and for a first load.
 *
 * It works beside a projector that is active, a transaction at a time, and may be interrupted and run again. The feed starts a new
 * generation, so that watchers begin anew; what changes from there on is in it.
 */
export async function projectAll(database: Database, { onProgress }: RebuildOptions = {}): Promise<Rebuilt> {
  await startGeneration(database);
  let workspaces = 0;
  let changed = 0;
  let parked = 0;
  let after: Buffer | undefined;
  for (;;) {
    const ids = await workspaceIdsAfter(database, after, workspacesPerTransaction);
    after = ids.at(-1);
    if (after === undefined) return { workspaces, changed, parked };
    await workOrPark(
      ids,
      async (some) => {
        const written = await writeReadModel(database, undefined, async (transaction) => {
          const changes = await projectWorkspaces(transaction, some);
          await unparkWorkspaces(transaction, some);
          return changes;
        });
        changed += written.events.length;
      },
      async (ref, error) => {
        await parkChange(database, { kind: changeKinds.workspace, ref }, error);
        parked += 1;
      },
    );
    workspaces += ids.length;
    onProgress?.(workspaces);
  }
}
