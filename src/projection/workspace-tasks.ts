import type { SourcedTask } from './sourced-task.ts';
import type { TaskFacts } from './task-facts.ts';

/** The task that a workspace is, where workspaces are the tasks; undefined when it is none. */
export function taskOfWorkspace(facts: TaskFacts): SourcedTask | undefined {
  const { build_id, build_number, build_template_version_id } = facts;
  if (!isTask(facts)) return undefined;
  // A task has a build: the check is for the compiler.
  if (build_id === null || build_number === null || build_template_version_id === null) return undefined;
  const deleted = facts.deleted !== 0;
  const build = {
    id: build_id,
    templateVersionId: build_template_version_id,
    transition: facts.build_transition ?? '',
    createdAt: facts.build_created_at ?? '',
    jobStatus: facts.job_status,
    jobCompleted: facts.job_completed === 1,
    jobCanceled: facts.job_canceled === 1,
    jobError: facts.job_error === 1,
  };
  return {
    id: facts.id,
    workspaceId: facts.id,
    ownerId: facts.owner_id,
    organizationId: facts.organization_id,
    templateId: facts.template_id,
    templateVersionId: facts.first_template_version_id ?? build_template_version_id,
    name: facts.name,
    displayName: null,
    prompt: facts.prompt,
    deleted,
    workspaceDeleted: deleted,
    createdAt: facts.created_at,
    updatedAt: facts.updated_at,
    favorite: facts.favorite !== 0,
    dormantAt: facts.dormant_at,
    userAcl: facts.user_acl,
    groupAcl: facts.group_acl,
    aclIsCut: facts.acl_is_cut === 1,
    build,
    buildNumber: build_number,
    phaseBuild: build,
    ...choose(facts),
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

/**
 * A task is a workspace whose latest build has `has_ai_task`, or whose latest start has it or, while that is NULL, has a prompt.
 * Coder asks the latest build alone (coderd/database/queries/workspaces.sql at 427b23f, GetWorkspaces), and so loses a task that
 * failed to start, was canceled or stopped.
 */
function isTask(facts: TaskFacts): boolean {
  if (facts.build_id === null) return false;
  if (facts.build_has_ai_task === 1) return true;
  if (facts.start_id === null) return false;
  return facts.start_has_ai_task === 1 || (facts.start_has_ai_task === null && (facts.start_prompt_length ?? 0) > 0);
}

/**
 * Which agent runs the task, and through which app it reports: the app that the latest build names (`ai_task_sidebar_app_id`) and
 * that app's agent, as Coder filled its table task_workspace_apps (migrations/000387_migrate_task_workspaces.up.sql). A build
 * that is still running names none: then its only app with that app's agent, or else its only agent.
 */
function choose(facts: TaskFacts): Pick<SourcedTask, 'agent' | 'app'> {
  const agentOf = (id: Buffer | null, lifecycle: string | null) => (id === null ? undefined : { id, lifecycle: lifecycle ?? '' });
  if (facts.sidebar_app_id !== null) {
    return {
      agent: agentOf(facts.sidebar_agent_id, facts.sidebar_agent_lifecycle),
      app: { id: facts.sidebar_app_id, health: facts.sidebar_app_health ?? '' },
    };
  }
  if (facts.app_id !== null) {
    return {
      agent: agentOf(facts.app_agent_id, facts.app_agent_lifecycle),
      app: { id: facts.app_id, health: facts.app_health ?? '' },
    };
  }
  return { agent: agentOf(facts.agent_id, facts.agent_lifecycle), app: undefined };
}
