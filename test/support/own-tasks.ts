import type { Database } from '../../src/db/connection.ts';

/**
 * The id of the task of a workspace, and the other way round, for a world whose tasks have ids of their own. It keeps the order of
 * ids that differ before their last two digits.
 */
export function otherId(id: string): string {
  const last = (0xff - Number.parseInt(id.slice(-2), 16)).toString(16).padStart(2, '0');
  return `${id.slice(0, -2)}${last}`;
}

/** A text with each id of a workspace as that of its task, and the other way round. */
export function withOtherIds(text: string, ids: readonly string[]): string {
  const known = new Set(ids);
  return text.replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi, (id) =>
    known.has(id.toLowerCase()) || known.has(otherId(id.toLowerCase())) ? otherId(id.toLowerCase()) : id,
  );
}

/**
 * Makes the tasks of the read model, which are workspaces, into rows of `tasks` with ids of their own, as an upgrade of Coder does. The
 * read model stays as it is until it is projected again.
 */
export async function giveTasksRowsOfTheirOwn(database: Database): Promise<void> {
  const rows = (await database('workspace_tasks')) as Record<string, unknown>[];
  const taskId = (id: unknown): Buffer => {
    const other = Buffer.from(id as Buffer);
    other[15] = 0xff - (other[15] ?? 0);
    return other;
  };
  for (const row of rows) {
    const of = (...columns: string[]) => Object.fromEntries(columns.map((column) => [column, row[column]]));
    await database('tasks').insert({
      ...of('owner_id', 'organization_id', 'name', 'workspace_id', 'template_version_id', 'prompt', 'created_at'),
      id: taskId(row['id']),
      deleted_at: row['live'] === 1 ? null : row['updated_at'],
    } as never);
    await database('task_workspace_apps').insert({
      task_id: taskId(row['id']),
      workspace_build_number: row['build_number'],
      workspace_agent_id: row['agent_id'],
      workspace_app_id: row['app_id'],
    } as never);
  }
}
