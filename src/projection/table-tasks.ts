import type { Database } from '../db/connection.ts';
import type { SourcedTask } from './sourced-task.ts';
import { promptFactBytes } from './task-facts.ts';
import { ofWorkspace, type WorkspaceFacts, workspaceColumns, workspaceJoins } from './workspace-facts.ts';

/**
 * Reads rows of `tasks` with all that belongs to them, in one statement. A task whose workspace is not there yet is none yet: its
 * copy is under way.
 *
 * It reads only columns of `projectedTables`, but for the template of a version. Every table is read by an index, for each task
 * separately. No long value goes through a function such as `cast`, which gives NULL for one that is longer than
 * `max_allowed_packet`.
 */
export const tableTasksSql = `
select
  \`t\`.\`id\`, \`t\`.\`owner_id\`, \`t\`.\`organization_id\`, \`t\`.\`workspace_id\`, \`t\`.\`template_version_id\`,
  \`t\`.\`name\`, \`t\`.\`display_name\`, left(\`t\`.\`prompt\`, ${promptFactBytes}) as \`prompt\`, \`t\`.\`created_at\`,
  \`t\`.\`deleted_at\` is not null as \`deleted\`,
  coalesce(\`w\`.\`template_id\`, \`v\`.\`template_id\`) as \`template_id\`, \`w\`.\`deleted\` as \`workspace_deleted\`,
  ${workspaceColumns},
  \`l\`.\`workspace_build_number\` as \`build_number\`,
  \`lb\`.\`transition\` as \`linked_transition\`, \`lj\`.\`job_status\` as \`linked_job_status\`,
  \`l\`.\`workspace_agent_id\` as \`agent_id\`, \`g\`.\`lifecycle_state\` as \`agent_lifecycle\`,
  \`l\`.\`workspace_app_id\` as \`app_id\`, \`p\`.\`health\` as \`app_health\`
from \`tasks\` as \`t\`
left join \`workspaces\` as \`w\` on \`w\`.\`id\` = \`t\`.\`workspace_id\`
left join \`template_versions\` as \`v\` on \`v\`.\`id\` = \`t\`.\`template_version_id\`
${workspaceJoins}
left join \`task_workspace_apps\` as \`l\` on \`l\`.\`task_id\` = \`t\`.\`id\` and \`l\`.\`workspace_build_number\` = (
  select max(\`l1\`.\`workspace_build_number\`) from \`task_workspace_apps\` as \`l1\` where \`l1\`.\`task_id\` = \`t\`.\`id\`)
left join \`workspace_builds\` as \`lb\` on \`lb\`.\`id\` = (
  select \`b2\`.\`id\` from \`workspace_builds\` as \`b2\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b2\`.\`workspace_id\` = \`w\`.\`id\` and \`b2\`.\`build_number\` = \`l\`.\`workspace_build_number\`
  order by \`b2\`.\`id\` desc limit 1)
left join \`provisioner_jobs\` as \`lj\` on \`lj\`.\`id\` = \`lb\`.\`job_id\`
left join \`workspace_agents\` as \`g\` on \`g\`.\`id\` = \`l\`.\`workspace_agent_id\`
left join \`workspace_apps\` as \`p\` on \`p\`.\`id\` = \`l\`.\`workspace_app_id\`
where \`t\`.\`id\` in (?) and (\`t\`.\`workspace_id\` is null or \`w\`.\`id\` is not null)`;

/** A row of {@link tableTasksSql}. Columns of a row that does not exist are NULL. */
export interface TableTask extends WorkspaceFacts {
  readonly id: Buffer;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly workspace_id: Buffer | null;
  readonly template_version_id: Buffer;
  readonly name: string;
  readonly display_name: string | null;
  readonly prompt: string;
  readonly created_at: string;
  readonly deleted: number;
  /** The workspace's or, without one, the version's. */
  readonly template_id: Buffer | null;
  readonly workspace_deleted: number | null;
  /** Of the row of `task_workspace_apps` with the greatest build number, and of that build. */
  readonly build_number: number | null;
  readonly linked_transition: string | null;
  readonly linked_job_status: string | null;
  readonly agent_id: Buffer | null;
  readonly agent_lifecycle: string | null;
  readonly app_id: Buffer | null;
  readonly app_health: string | null;
}

/** Reads the tasks with these ids, where a deployment has tasks of its own. */
export async function readTableTasks(database: Database, ids: Buffer[]): Promise<SourcedTask[]> {
  const [rows] = (await database.raw(tableTasksSql, [ids])) as [TableTask[]];
  return rows.map(taskOfTable);
}

/**
 * The task that a row of `tasks` is: a row of its own, whose agent, app and build are those of the newest row of
 * `task_workspace_apps` (the view tasks_with_status, migrations/000415_fix_task_pending_status.up.sql).
 */
export function taskOfTable(row: TableTask): SourcedTask {
  return {
    id: row.id,
    workspaceId: row.workspace_id,
    ownerId: row.owner_id,
    organizationId: row.organization_id,
    templateId: row.template_id ?? noTemplate,
    templateVersionId: row.template_version_id,
    name: row.name,
    displayName: row.display_name,
    prompt: Buffer.from(row.prompt).subarray(0, promptFactBytes),
    deleted: row.deleted === 1,
    workspaceDeleted: row.workspace_deleted === 1,
    createdAt: row.created_at,
    updatedAt: row.updated_at ?? row.created_at,
    ...ofWorkspace(row),
    buildNumber: row.build_number ?? 0,
    phaseBuild:
      row.linked_transition === null ? undefined : { transition: row.linked_transition, jobStatus: row.linked_job_status },
    agent: row.agent_id === null ? undefined : { id: row.agent_id, lifecycle: row.agent_lifecycle ?? undefined },
    app: row.app_id === null ? undefined : { id: row.app_id, health: row.app_health ?? '' },
  };
}

/** For a version whose template nobody knows. */
const noTemplate = Buffer.alloc(16);
