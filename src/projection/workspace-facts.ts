import type { SourcedBuild, SourcedTask } from './sourced-task.ts';

/** Most characters of an ACL, some 60,000 users or groups: it is in memory as objects. */
export const maxAclLength = 4 * 1024 * 1024;

/** The columns of a task that come from its workspace, whatever makes it a task. Columns of a row that does not exist are NULL. */
export interface WorkspaceFacts {
  readonly favorite: number | null;
  /**
   * JSON, as text: the driver would close the connection when it fails to parse it. One that is longer than {@link maxAclLength} is
   * cut.
   */
  readonly user_acl: string | null;
  readonly group_acl: string | null;
  /** Whether one of them is longer than `max_allowed_packet`: then MySQL gives an empty text for it. */
  readonly acl_is_cut: 0 | 1 | null;
  readonly dormant_at: string | null;
  readonly updated_at: string | null;

  /** The latest build: the one with the greatest number and, of equal ones, with the greatest id. */
  readonly build_id: Buffer | null;
  readonly build_transition: string | null;
  readonly build_template_version_id: Buffer | null;
  readonly build_created_at: string | null;
  readonly job_status: string | null;
  readonly job_completed: number;
  readonly job_canceled: number;
  /** Whether the error is not NULL; it may be empty. */
  readonly job_error: number;

  /** The newest app status over all apps and builds of the workspace; of equally new ones the one with the greatest id. */
  readonly status_state: string | null;
  readonly status_message: string | null;
  readonly status_uri: string | null;
  readonly status_created_at: string | null;
}

/** The columns of {@link WorkspaceFacts}, where `w` is `workspaces`, with the joins of {@link workspaceJoins}. */
export const workspaceColumns = `\`w\`.\`favorite\`, left(\`w\`.\`user_acl\`, ${maxAclLength + 1}) as \`user_acl\`,
  left(\`w\`.\`group_acl\`, ${maxAclLength + 1}) as \`group_acl\`,
  ((length(\`w\`.\`user_acl\`) = 0 and json_length(\`w\`.\`user_acl\`) > 0) or
    (length(\`w\`.\`group_acl\`) = 0 and json_length(\`w\`.\`group_acl\`) > 0)) as \`acl_is_cut\`,
  \`w\`.\`dormant_at\`, \`w\`.\`updated_at\`,
  \`b\`.\`id\` as \`build_id\`, \`b\`.\`transition\` as \`build_transition\`,
  \`b\`.\`template_version_id\` as \`build_template_version_id\`, \`b\`.\`created_at\` as \`build_created_at\`,
  \`j\`.\`job_status\`, \`j\`.\`completed_at\` is not null as \`job_completed\`,
  \`j\`.\`canceled_at\` is not null as \`job_canceled\`, \`j\`.\`error\` is not null as \`job_error\`,
  \`st\`.\`state\` as \`status_state\`, \`st\`.\`message\` as \`status_message\`, \`st\`.\`uri\` as \`status_uri\`,
  \`st\`.\`created_at\` as \`status_created_at\``;

/** The latest build of the workspace `w` as `b`, its job as `j`, and the newest app status as `st`: each by one entry of an index. */
export const workspaceJoins = `left join \`workspace_builds\` as \`b\` on \`b\`.\`id\` = (
  select \`b1\`.\`id\` from \`workspace_builds\` as \`b1\` force index (\`workspace_builds_workspace_id_build_number\`)
  where \`b1\`.\`workspace_id\` = \`w\`.\`id\`
  order by \`b1\`.\`workspace_id\` desc, \`b1\`.\`build_number\` desc, \`b1\`.\`id\` desc limit 1)
left join \`provisioner_jobs\` as \`j\` on \`j\`.\`id\` = \`b\`.\`job_id\`
left join \`workspace_app_statuses\` as \`st\` on \`st\`.\`id\` = (
  select \`st1\`.\`id\` from \`workspace_app_statuses\` as \`st1\` force index (\`workspace_app_statuses_workspace_id_created_at\`)
  where \`st1\`.\`workspace_id\` = \`w\`.\`id\`
  order by \`st1\`.\`workspace_id\` desc, \`st1\`.\`created_at\` desc, \`st1\`.\`id\` desc limit 1)`;

/** The parts of a task that these columns are. */
export function ofWorkspace(
  facts: WorkspaceFacts,
): Pick<SourcedTask, 'favorite' | 'dormantAt' | 'userAcl' | 'groupAcl' | 'aclIsCut' | 'build' | 'report'> {
  return {
    favorite: facts.favorite === 1,
    dormantAt: facts.dormant_at,
    userAcl: facts.user_acl,
    groupAcl: facts.group_acl,
    aclIsCut: facts.acl_is_cut === 1,
    build: buildOf(facts),
    report:
      facts.status_created_at === null
        ? undefined
        : {
            state: facts.status_state ?? '',
            message: facts.status_message ?? '',
            uri: facts.status_uri,
            createdAt: facts.status_created_at,
          },
  };
}

function buildOf(facts: WorkspaceFacts): SourcedBuild | undefined {
  const { build_id, build_template_version_id } = facts;
  if (build_id === null || build_template_version_id === null) return undefined;
  return {
    id: build_id,
    templateVersionId: build_template_version_id,
    transition: facts.build_transition ?? '',
    createdAt: facts.build_created_at ?? '',
    jobStatus: facts.job_status,
    jobCompleted: facts.job_completed === 1,
    jobCanceled: facts.job_canceled === 1,
    jobError: facts.job_error === 1,
  };
}
