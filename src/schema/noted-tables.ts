/** What the `ref` of a change is the id of: the value of `workspace_changes.kind`. */
export const changeKinds = { workspace: 1, build: 2, job: 3, resource: 4, agent: 5 } as const;

/** One of the values of {@link changeKinds}. */
export type ChangeKind = (typeof changeKinds)[keyof typeof changeKinds];

/**
 * How two values of a column are compared: `exact` by `<=>`; `bytes` by `<=>` of their bytes, since the collation takes a text
 * and the same text with spaces behind it for one; `presence` only by whether they are NULL.
 */
export type Comparison = 'exact' | 'bytes' | 'presence';

/** A source table whose changes are noted in the outbox. */
export interface NotedTable {
  /** What a change notes. */
  readonly kind: ChangeKind;
  /** The column with its id. A row that moves from one to another notes both. */
  readonly key: string;
  /** The columns that the projection reads, the key left out. A change of any other column is no change. */
  readonly columns: Readonly<Record<string, Comparison>>;
  /** A column that must have this value, before or after the change, for the row to matter at all. */
  readonly only?: readonly [column: string, value: string];
}

/** The build parameter that holds the prompt of a task (codersdk/aitasks.go at 427b23f, `AITaskPromptParameterName`). */
export const promptParameter = 'AI Prompt';

/**
 * Every column of a source table that a row of the read model depends on. The triggers' conditions are made from this list, and
 * the tests hold the projection's SELECT and each column to it.
 *
 * A row notes the id of its parent, not of its workspace, which a trigger would have to look up: in a transaction that began
 * before the link was committed it would look in vain, and the change would be lost. The projector follows the links later.
 * Ids are in the list because the links and the order of equal times are made of them.
 *
 * Left out on purpose: `workspaces.last_used_at`, the heartbeat of a job, and when an agent was connected. They move all the
 * time, and are joined when a page is read.
 */
export const notedTables: Readonly<Record<string, NotedTable>> = {
  workspaces: {
    kind: changeKinds.workspace,
    key: 'id',
    columns: {
      owner_id: 'exact',
      organization_id: 'exact',
      template_id: 'exact',
      name: 'bytes',
      deleted: 'exact',
      favorite: 'exact',
      user_acl: 'bytes',
      group_acl: 'bytes',
      dormant_at: 'exact',
      created_at: 'exact',
      updated_at: 'exact',
    },
  },
  workspace_builds: {
    kind: changeKinds.workspace,
    key: 'workspace_id',
    columns: {
      id: 'exact',
      build_number: 'exact',
      transition: 'bytes',
      job_id: 'exact',
      has_ai_task: 'exact',
      ai_task_sidebar_app_id: 'exact',
      template_version_id: 'exact',
      created_at: 'exact',
    },
  },
  workspace_build_parameters: {
    kind: changeKinds.build,
    key: 'workspace_build_id',
    columns: { name: 'bytes', value: 'bytes' },
    only: ['name', promptParameter],
  },
  provisioner_jobs: {
    kind: changeKinds.job,
    key: 'id',
    // Whether a task runs asks for an error that is NULL, its status for one that is not empty: from NULL to '' the status stays.
    columns: { job_status: 'bytes', completed_at: 'presence', canceled_at: 'presence', error: 'presence' },
  },
  workspace_resources: {
    kind: changeKinds.job,
    key: 'job_id',
    columns: { id: 'exact' },
  },
  workspace_agents: {
    kind: changeKinds.resource,
    key: 'resource_id',
    columns: { id: 'exact', deleted: 'exact', parent_id: 'exact', lifecycle_state: 'bytes' },
  },
  workspace_apps: {
    kind: changeKinds.agent,
    key: 'agent_id',
    columns: { id: 'exact', health: 'bytes' },
  },
  workspace_app_statuses: {
    kind: changeKinds.workspace,
    key: 'workspace_id',
    columns: { id: 'exact', state: 'bytes', message: 'bytes', uri: 'bytes', created_at: 'exact' },
  },
};
