import type { Database } from '../db/connection.ts';
import { inTransaction } from '../db/transaction.ts';
import { type ChangeKind, changeKinds } from './projected-tables.ts';

/**
 * What the tasks of a deployment are: its flagged workspaces, as at first, or the rows of its table `tasks`. It is one of them for the
 * whole deployment: where it has tasks of its own, these are all.
 */
export type TaskSourceName = 'workspaces' | 'tasks';

/** The kind of change that stands for a task of a source: of a workspace, or of a row of `tasks`. */
export const kindOfTasks = {
  workspaces: changeKinds.workspace,
  tasks: changeKinds.task,
} as const satisfies Record<TaskSourceName, ChangeKind>;

/** Reads from which source the read model is made. Only the projector changes it, and a first copy of Coder. */
export async function readTaskSource(database: Database): Promise<TaskSourceName> {
  const [[row]] = (await database.raw('select `p`.`task_source` from `projector_state` as `p` where `p`.`id` = 1')) as [
    { task_source: TaskSourceName }[],
  ];
  return row?.task_source ?? 'workspaces';
}

/**
 * Says from which source the read model is made, in the transaction in which a first copy writes all that may be a task and notes
 * it: then nothing has to be noted again.
 */
export async function writeTaskSource(transaction: Database, source: TaskSourceName): Promise<void> {
  await transaction.raw('update `projector_state` set `task_source` = ? where `id` = 1', [source]);
}

/**
 * Changes the source if the deployment has got tasks of its own, or has none any more, and returns whether it did. Then every row has
 * to be projected again: the version of the projector is forgotten until that is noted, so that it is not missed.
 *
 * A copy of Coder says with its end what it has, and while one is made nothing is changed: a part of a table is no source. Where
 * other writers fill the tables, the first row of `tasks` says it.
 *
 * @param epoch of the active projector; without one, it may run beside it.
 */
export async function followTaskSource(database: Database, epoch?: number): Promise<boolean> {
  const [[row]] = (await database.raw(
    `select \`p\`.\`task_source\` as \`present\`, case \`s\`.\`phase\`
       when 'none' then if(exists (select 1 from \`tasks\` as \`t\`), 'tasks', 'workspaces')
       when 'live' then if(\`s\`.\`has_tasks\`, 'tasks', 'workspaces')
       else \`p\`.\`task_source\` end as \`wanted\`
     from \`projector_state\` as \`p\` join \`sync_state\` as \`s\` on \`s\`.\`id\` = 1 where \`p\`.\`id\` = 1`,
  )) as [Record<'present' | 'wanted', TaskSourceName>[]];
  if (row === undefined || row.wanted === row.present) return false;
  return inTransaction(database, async (transaction) => {
    const [{ affectedRows }] = (await transaction.raw(
      'update `projector_state` set `task_source` = ?, `version` = null where `id` = 1 and `epoch` = coalesce(?, `epoch`)',
      [row.wanted, epoch ?? null],
    )) as [{ affectedRows: number }];
    // What could not be projected may be no task now, and is tried again in any case.
    if (affectedRows > 0) await transaction.raw('delete from `workspace_changes_failed`');
    return affectedRows > 0;
  });
}
