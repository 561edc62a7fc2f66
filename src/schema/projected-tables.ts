/** The values of `workspace_changes.kind`: the kind of row whose id is in `ref`. */
export const changeKinds = { workspace: 1, build: 2, job: 3, resource: 4, agent: 5, task: 6 } as const;

/** One of the values of {@link changeKinds}. */
export type ChangeKind = (typeof changeKinds)[keyof typeof changeKinds];

/**
 * How two values of a column are compared: `exact` by `<=>`; `bytes` by `<=>` of their bytes, since the collation ignores
 * trailing spaces; `presence` only by whether they are NULL.
 */
export type Comparison = 'exact' | 'bytes' | 'presence';

/** A source table whose changes are written to the outbox. */
export interface ProjectedTable {
  /** The kind of id that is written to the outbox. */
  readonly kind: ChangeKind;
  /** The column with that id. When an update changes it, both ids are written. */
  readonly key: string;
  /** The columns that the projection reads, other than the key. Updates of other columns are ignored. */
  readonly columns: Readonly<Record<string, Comparison>>;
  /** Rows without this value, both before and after the change, are ignored. */
  readonly only?: readonly [column: string, value: string];
}

/** The build parameter that holds the prompt of a task (codersdk/aitasks.go at 427b23f, `AITaskPromptParameterName`). */
export const promptParameter = 'AI Prompt';

/**
 * Every column of a source table that the read model depends on. The conditions of the triggers are generated from this list, and
 * tests compare it with the projection's SELECT.
 *
 * A trigger writes the id of the row's parent, not of its workspace. It would have to look that up, and in a transaction that
 * began before the link was committed it would not find it, so that the change would be lost. The projector follows the links
 * later. Ids are in the list because they are the links, and the order of rows with equal times.
 *
 * Left out on purpose: `workspaces.last_used_at`, the heartbeat of a job, and when an agent was connected. They change all the
 * time, and are joined when a page is read. And the template of a version, for a task without a workspace: it is there before the
 * task, and never another one.
 */
export const projectedTables: Readonly<Record<string, ProjectedTable>> = {
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
    // The projection asks of these three only whether they are NULL. (`job_status` is generated from whether `error` is empty,
    // too.)
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
  tasks: {
    kind: changeKinds.task,
    key: 'id',
    columns: {
      organization_id: 'exact',
      owner_id: 'exact',
      name: 'bytes',
      display_name: 'bytes',
      workspace_id: 'exact',
      template_version_id: 'exact',
      prompt: 'bytes',
      created_at: 'exact',
      deleted_at: 'exact',
    },
  },
  task_workspace_apps: {
    kind: changeKinds.task,
    key: 'task_id',
    columns: { workspace_build_number: 'exact', workspace_agent_id: 'exact', workspace_app_id: 'exact' },
  },
};
