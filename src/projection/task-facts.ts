import type { Database } from '../db/connection.ts';
import { promptParameter } from '../schema/projected-tables.ts';
import { type WorkspaceFacts, workspaceColumns, workspaceJoins } from './workspace-facts.ts';

/**
 * The columns of the source tables that describe one workspace, unchanged: ids are 16 bytes, times are text in UTC with
 * microseconds, enums are Coder's words. Columns of a row that does not exist are NULL.
 */
export interface TaskFacts extends WorkspaceFacts {
  readonly id: Buffer;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly template_id: Buffer;
  readonly name: string;
  readonly deleted: number;
  readonly favorite: number;
  readonly created_at: string;
  readonly updated_at: string;

  /** Of the latest build. */
  readonly build_number: number | null;
  readonly build_has_ai_task: number | null;

  /** The latest build that starts the workspace, chosen like the latest of all. */
  readonly start_id: Buffer | null;
  readonly start_has_ai_task: number | null;
  /** Bytes of its prompt. */
  readonly start_prompt_length: number | null;
  /** Of the first build: the one with the smallest number and, of equal ones, with the smallest id. */
  readonly first_template_version_id: Buffer | null;
  /** The prompt of the latest build that has one: its first bytes in UTF-8, {@link promptFactBytes} at most. */
  readonly prompt: Buffer | null;

  /** The app that the latest build names; NULL when the app belongs to no build of this workspace. */
  readonly sidebar_app_id: Buffer | null;
  readonly sidebar_app_health: string | null;
  readonly sidebar_agent_id: Buffer | null;
  readonly sidebar_agent_lifecycle: string | null;
  /** The only agent of the latest build that is neither deleted nor a part of another agent; NULL when there are several. */
  readonly agent_id: Buffer | null;
  readonly agent_lifecycle: string | null;
  /** The only app of such agents, with its agent; NULL when there are several. */
  readonly app_id: Buffer | null;
  readonly app_health: string | null;
  readonly app_agent_id: Buffer | null;
  readonly app_agent_lifecycle: string | null;
}

/** Bytes of a prompt that are read: one more than the read model keeps, which shows that the prompt was cut. */
export const promptFactBytes = 1_048_577;

/**
 * Reads the facts of many workspaces in one statement, and so in one snapshot of all tables. A workspace that does not exist has
 * no row.
 *
 * It reads only columns of `projectedTables`, of rows from which `tasksOf` finds the workspace; a test checks that. Every table
 * is read by an index, for each workspace separately. No long value goes through a function such as `cast`, which gives NULL for
 * one that is longer than `max_allowed_packet`.
 */
export const taskFactsSql = `
select
  \`w\`.\`id\`, \`w\`.\`owner_id\`, \`w\`.\`organization_id\`, \`w\`.\`template_id\`, \`w\`.\`name\`, \`w\`.\`deleted\`,
  \`w\`.\`created_at\`, \`b\`.\`build_number\`, \`b\`.\`has_ai_task\` as \`build_has_ai_task\`,
  ${workspaceColumns},
  \`s\`.\`id\` as \`start_id\`, \`s\`.\`has_ai_task\` as \`start_has_ai_task\`, length(\`sp\`.\`value\`) as \`start_prompt_length\`,
  \`f\`.\`template_version_id\` as \`first_template_version_id\`,
  left(\`pp\`.\`value\`, ${promptFactBytes}) as \`prompt\`,
  if(exists (select 1 from \`workspace_builds\` as \`nb\` where \`nb\`.\`job_id\` = \`nr\`.\`job_id\` and \`nb\`.\`workspace_id\` = \`w\`.\`id\`),
    \`na\`.\`id\`, null) as \`sidebar_app_id\`, \`na\`.\`health\` as \`sidebar_app_health\`,
  \`ng\`.\`id\` as \`sidebar_agent_id\`, \`ng\`.\`lifecycle_state\` as \`sidebar_agent_lifecycle\`,
  \`og\`.\`id\` as \`agent_id\`, \`og\`.\`lifecycle_state\` as \`agent_lifecycle\`,
  \`oa\`.\`id\` as \`app_id\`, \`oa\`.\`health\` as \`app_health\`,
  \`oag\`.\`id\` as \`app_agent_id\`, \`oag\`.\`lifecycle_state\` as \`app_agent_lifecycle\`
from \`workspaces\` as \`w\`
${workspaceJoins}
left join \`workspace_builds\` as \`s\` on \`s\`.\`id\` = (
  select \`b2\`.\`id\` from \`workspace_builds\` as \`b2\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b2\`.\`workspace_id\` = \`w\`.\`id\` and \`b2\`.\`transition\` = 'start'
  order by \`b2\`.\`workspace_id\` desc, \`b2\`.\`build_number\` desc, \`b2\`.\`id\` desc limit 1)
left join \`workspace_build_parameters\` as \`sp\` on \`sp\`.\`workspace_build_id\` = \`s\`.\`id\`
  and \`sp\`.\`name\` = '${promptParameter}' and length(\`sp\`.\`name\`) = ${promptParameter.length}
left join \`workspace_builds\` as \`f\` on \`f\`.\`id\` = (
  select \`b3\`.\`id\` from \`workspace_builds\` as \`b3\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b3\`.\`workspace_id\` = \`w\`.\`id\`
  order by \`b3\`.\`workspace_id\`, \`b3\`.\`build_number\`, \`b3\`.\`id\` limit 1)
left join \`workspace_builds\` as \`p\` on \`p\`.\`id\` = (
  select \`b4\`.\`id\` from \`workspace_builds\` as \`b4\` force index (\`workspace_builds_workspace_id_build_number\`)
  straight_join \`workspace_build_parameters\` as \`p4\` on \`p4\`.\`workspace_build_id\` = \`b4\`.\`id\`
    and \`p4\`.\`name\` = '${promptParameter}' and length(\`p4\`.\`name\`) = ${promptParameter.length}
  where \`b4\`.\`workspace_id\` = \`w\`.\`id\` and length(\`p4\`.\`value\`) > 0
  order by \`b4\`.\`workspace_id\` desc, \`b4\`.\`build_number\` desc, \`b4\`.\`id\` desc limit 1)
left join \`workspace_build_parameters\` as \`pp\` on \`pp\`.\`workspace_build_id\` = \`p\`.\`id\`
  and \`pp\`.\`name\` = '${promptParameter}' and length(\`pp\`.\`name\`) = ${promptParameter.length}
left join \`workspace_apps\` as \`na\` on \`na\`.\`id\` = \`b\`.\`ai_task_sidebar_app_id\`
left join \`workspace_agents\` as \`ng\` on \`ng\`.\`id\` = \`na\`.\`agent_id\`
left join \`workspace_resources\` as \`nr\` on \`nr\`.\`id\` = \`ng\`.\`resource_id\`
left join \`workspace_agents\` as \`og\` on \`og\`.\`id\` = (
  select if(count(*) = 1, min(\`g5\`.\`id\`), null) from \`workspace_resources\` as \`r5\` force index (\`workspace_resources_job_id\`)
  straight_join \`workspace_agents\` as \`g5\` force index (\`workspace_agents_resource_id\`) on \`g5\`.\`resource_id\` = \`r5\`.\`id\`
  where \`r5\`.\`job_id\` = \`b\`.\`job_id\` and \`g5\`.\`deleted\` = 0 and \`g5\`.\`parent_id\` is null)
left join \`workspace_apps\` as \`oa\` on \`oa\`.\`id\` = (
  select if(count(*) = 1, min(\`a6\`.\`id\`), null) from \`workspace_resources\` as \`r6\` force index (\`workspace_resources_job_id\`)
  straight_join \`workspace_agents\` as \`g6\` force index (\`workspace_agents_resource_id\`) on \`g6\`.\`resource_id\` = \`r6\`.\`id\`
  straight_join \`workspace_apps\` as \`a6\` force index (\`workspace_apps_agent_id\`) on \`a6\`.\`agent_id\` = \`g6\`.\`id\`
  where \`r6\`.\`job_id\` = \`b\`.\`job_id\` and \`g6\`.\`deleted\` = 0 and \`g6\`.\`parent_id\` is null)
left join \`workspace_agents\` as \`oag\` on \`oag\`.\`id\` = \`oa\`.\`agent_id\`
where \`w\`.\`id\` in (?)`;

/** Reads the facts of these workspaces, with {@link taskFactsSql}. */
export async function readTaskFacts(database: Database, ids: Buffer[]): Promise<TaskFacts[]> {
  const [rows] = (await database.raw(taskFactsSql, [ids])) as [(Omit<TaskFacts, 'prompt'> & { prompt: string | null })[]];
  return rows.map(({ prompt, ...others }) => ({ ...others, prompt: prompt === null ? null : firstBytes(prompt) }));
}

function firstBytes(prompt: string): Buffer {
  return Buffer.from(prompt).subarray(0, promptFactBytes);
}
