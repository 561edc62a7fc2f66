import type { SourcedTask } from './sourced-task.ts';
import type { TaskFacts } from './task-facts.ts';
import { ofWorkspace } from './workspace-facts.ts';

/** The task that a workspace is, where workspaces are the tasks; undefined when the workspace is not a task. */
export function taskOfWorkspace(facts: TaskFacts): SourcedTask | undefined {
  const shared = ofWorkspace(facts);
  const { build } = shared;
  if (build === undefined || !isTask(facts)) return undefined;
  const deleted = facts.deleted !== 0;
  return {
    id: facts.id,
    workspaceId: facts.id,
    ownerId: facts.owner_id,
    organizationId: facts.organization_id,
    templateId: facts.template_id,
    templateVersionId: facts.first_template_version_id ?? build.templateVersionId,
    name: facts.name,
    displayName: null,
    prompt: facts.prompt,
    deleted,
    workspaceDeleted: deleted,
    createdAt: facts.created_at,
    updatedAt: facts.updated_at,
    ...shared,
    buildNumber: facts.build_number ?? 0,
    phaseBuild: build,
    ...choose(facts),
  };
}

/**
 * A task is a workspace whose latest build has `has_ai_task`, or whose latest start has it or, while that is NULL, has a prompt.
 * Coder asks the latest build alone (coderd/database/queries/workspaces.sql at 427b23f, GetWorkspaces), and so loses a task that
 * failed to start, was canceled or stopped.
 */
function isTask(facts: TaskFacts): boolean {
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
