import type { Database } from '../db/connection.ts';
import type { SourcedTask } from './sourced-task.ts';
import { maxAclLength, promptFactBytes } from './task-facts.ts';

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
  \`w\`.\`favorite\`, left(\`w\`.\`user_acl\`, ${maxAclLength + 1}) as \`user_acl\`,
  left(\`w\`.\`group_acl\`, ${maxAclLength + 1}) as \`group_acl\`,
  ((length(\`w\`.\`user_acl\`) = 0 and json_length(\`w\`.\`user_acl\`) > 0) or
    (length(\`w\`.\`group_acl\`) = 0 and json_length(\`w\`.\`group_acl\`) > 0)) as \`acl_is_cut\`,
  \`w\`.\`dormant_at\`, \`w\`.\`updated_at\`,
  \`b\`.\`id\` as \`build_id\`, \`b\`.\`template_version_id\` as \`build_template_version_id\`,
  \`b\`.\`transition\` as \`build_transition\`, \`b\`.\`created_at\` as \`build_created_at\`,
  \`j\`.\`job_status\`, \`j\`.\`completed_at\` is not null as \`job_completed\`,
  \`j\`.\`canceled_at\` is not null as \`job_canceled\`, \`j\`.\`error\` is not null as \`job_error\`,
  \`l\`.\`workspace_build_number\` as \`build_number\`,
  \`lb\`.\`transition\` as \`linked_transition\`, \`lj\`.\`job_status\` as \`linked_job_status\`,
  \`l\`.\`workspace_agent_id\` as \`agent_id\`, \`g\`.\`lifecycle_state\` as \`agent_lifecycle\`,
  \`l\`.\`workspace_app_id\` as \`app_id\`, \`p\`.\`health\` as \`app_health\`,
  \`st\`.\`state\` as \`status_state\`, \`st\`.\`message\` as \`status_message\`, \`st\`.\`uri\` as \`status_uri\`,
  \`st\`.\`created_at\` as \`status_created_at\`
from \`tasks\` as \`t\`
left join \`workspaces\` as \`w\` on \`w\`.\`id\` = \`t\`.\`workspace_id\`
left join \`template_versions\` as \`v\` on \`v\`.\`id\` = \`t\`.\`template_version_id\`
left join \`workspace_builds\` as \`b\` on \`b\`.\`id\` = (
  select \`b1\`.\`id\` from \`workspace_builds\` as \`b1\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b1\`.\`workspace_id\` = \`w\`.\`id\`
  order by \`b1\`.\`workspace_id\` desc, \`b1\`.\`build_number\` desc, \`b1\`.\`id\` desc limit 1)
left join \`provisioner_jobs\` as \`j\` on \`j\`.\`id\` = \`b\`.\`job_id\`
left join \`task_workspace_apps\` as \`l\` on \`l\`.\`task_id\` = \`t\`.\`id\` and \`l\`.\`workspace_build_number\` = (
  select max(\`l1\`.\`workspace_build_number\`) from \`task_workspace_apps\` as \`l1\` where \`l1\`.\`task_id\` = \`t\`.\`id\`)
left join \`workspace_builds\` as \`lb\` on \`lb\`.\`id\` = (
  select \`b2\`.\`id\` from \`workspace_builds\` as \`b2\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b2\`.\`workspace_id\` = \`w\`.\`id\` and \`b2\`.\`build_number\` = \`l\`.\`workspace_build_number\`
  order by \`b2\`.\`id\` desc limit 1)
left join \`provisioner_jobs\` as \`lj\` on \`lj\`.\`id\` = \`lb\`.\`job_id\`
left join \`workspace_agents\` as \`g\` on \`g\`.\`id\` = \`l\`.\`workspace_agent_id\`
left join \`workspace_apps\` as \`p\` on \`p\`.\`id\` = \`l\`.\`workspace_app_id\`
left join \`workspace_app_statuses\` as \`st\` on \`st\`.\`id\` = (
  select \`st1\`.\`id\` from \`workspace_app_statuses\` as \`st1\` force index (\`workspace_app_statuses_workspace_id_created_at\`) where \`st1\`.\`workspace_id\` = \`w\`.\`id\`
  order by \`st1\`.\`workspace_id\` desc, \`st1\`.\`created_at\` desc, \`st1\`.\`id\` desc limit 1)
where \`t\`.\`id\` in (?) and (\`t\`.\`workspace_id\` is null or \`w\`.\`id\` is not null)`;

/** A row of {@link tableTasksSql}. Columns of a row that does not exist are NULL. */
export interface TableTask {
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
  readonly favorite: number | null;
  readonly user_acl: string | null;
  readonly group_acl: string | null;
  readonly acl_is_cut: 0 | 1 | null;
  readonly dormant_at: string | null;
  readonly updated_at: string | null;
  readonly build_id: Buffer | null;
  readonly build_template_version_id: Buffer | null;
  readonly build_transition: string | null;
  readonly build_created_at: string | null;
  readonly job_status: string | null;
  readonly job_completed: number;
  readonly job_canceled: number;
  readonly job_error: number;
  /** Of the row of `task_workspace_apps` with the greatest build number, and of that build. */
  readonly build_number: number | null;
  readonly linked_transition: string | null;
  readonly linked_job_status: string | null;
  readonly agent_id: Buffer | null;
  readonly agent_lifecycle: string | null;
  readonly app_id: Buffer | null;
  readonly app_health: string | null;
  readonly status_state: string | null;
  readonly status_message: string | null;
  readonly status_uri: string | null;
  readonly status_created_at: string | null;
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
  const { build_id, build_template_version_id } = row;
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
    favorite: row.favorite === 1,
    dormantAt: row.dormant_at,
    userAcl: row.user_acl,
    groupAcl: row.group_acl,
    aclIsCut: row.acl_is_cut === 1,
    build:
      build_id === null || build_template_version_id === null
        ? undefined
        : {
            id: build_id,
            templateVersionId: build_template_version_id,
            transition: row.build_transition ?? '',
            createdAt: row.build_created_at ?? '',
            jobStatus: row.job_status,
            jobCompleted: row.job_completed === 1,
            jobCanceled: row.job_canceled === 1,
            jobError: row.job_error === 1,
          },
    buildNumber: row.build_number ?? 0,
    phaseBuild:
      row.linked_transition === null ? undefined : { transition: row.linked_transition, jobStatus: row.linked_job_status },
    agent: row.agent_id === null ? undefined : { id: row.agent_id, lifecycle: row.agent_lifecycle ?? undefined },
    app: row.app_id === null ? undefined : { id: row.app_id, health: row.app_health ?? '' },
    report:
      row.status_created_at === null
        ? undefined
        : {
            state: row.status_state ?? '',
            message: row.status_message ?? '',
            uri: row.status_uri,
            createdAt: row.status_created_at,
          },
  };
}

/** For a version whose template nobody knows. */
const noTemplate = Buffer.alloc(16);
