import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { AgentLifecycle, type Task, TaskPhase, TaskState, WorkspaceStatus } from '../../gen/tasks/v1/tasks_pb.ts';

/**
 * A task in Coder's JSON: the fields of its first version (codersdk/aitasks.go at #19468) in their order, then the later ones
 * that do not clash with them. A field that may be null is always there; those with `?` are left out when they are empty.
 */
export interface CoderTask {
  readonly id: string;
  readonly organization_id: string;
  readonly owner_id: string;
  readonly name: string;
  readonly template_id: string;
  readonly workspace_id: string | null;
  readonly initial_prompt: string;
  /** The status of the workspace, or in newer versions the task's own. */
  readonly status: string;
  readonly current_state: CoderTaskState | null;
  readonly created_at: string;
  readonly updated_at: string;

  readonly owner_name: string;
  readonly owner_avatar_url?: string;
  readonly display_name: string;
  readonly template_version_id: string;
  readonly template_name: string;
  readonly template_display_name: string;
  readonly template_icon: string;
  readonly workspace_name: string;
  readonly workspace_status?: string;
  readonly workspace_build_number?: number;
  readonly workspace_agent_id: string | null;
  readonly workspace_agent_lifecycle: string | null;
  readonly workspace_agent_health: { readonly healthy: boolean; readonly reason?: string } | null;
  readonly workspace_app_id: string | null;
}

/** What an agent last said of its work. `state` is `working`, `idle`, `complete` or `failure`, as the database has it. */
interface CoderTaskState {
  readonly timestamp: string;
  readonly state: string;
  readonly message: string;
  readonly uri: string;
}

/** Puts a task into Coder's JSON. Pure. */
export function toCoderTask(task: Task): CoderTask {
  const status = wordOf(statuses, task.status);
  const { currentState, workspaceAgentLifecycle: lifecycle, workspaceAgentHealth: health } = task;
  return {
    id: task.id,
    organization_id: task.organizationId,
    owner_id: task.ownerId,
    name: task.name,
    template_id: task.templateId,
    workspace_id: task.workspaceId ?? null,
    initial_prompt: task.initialPrompt,
    status: status === '' ? 'pending' : status, // no workspace yet
    current_state:
      currentState === undefined
        ? null
        : {
            timestamp: formatTime(currentState.timestamp),
            state: wordOf(states, currentState.state),
            message: currentState.message,
            uri: currentState.uri,
          },
    created_at: formatTime(task.createdAt),
    updated_at: formatTime(task.updatedAt),

    owner_name: task.ownerName,
    ...(task.ownerAvatarUrl === '' ? {} : { owner_avatar_url: task.ownerAvatarUrl }),
    display_name: task.displayName,
    template_version_id: task.templateVersionId,
    template_name: task.templateName,
    template_display_name: task.templateDisplayName,
    template_icon: task.templateIcon,
    workspace_name: task.workspaceName,
    ...(status === '' ? {} : { workspace_status: status }),
    ...(task.workspaceBuildNumber === 0 ? {} : { workspace_build_number: task.workspaceBuildNumber }),
    workspace_agent_id: task.workspaceAgentId ?? null,
    workspace_agent_lifecycle: lifecycle === undefined ? null : wordOf(lifecycles, lifecycle),
    workspace_agent_health:
      health === undefined
        ? null
        : { healthy: health.healthy, ...(health.reason === undefined ? {} : { reason: health.reason }) },
    workspace_app_id: task.workspaceAppId ?? null,
  };
}

/** The word for the state of an agent's work that newer versions have in place of `failure` (codersdk/aitasks.go). */
const failed = 'failed';

/**
 * A task in the JSON of newer versions of Coder, those with `/api/v2/tasks`: the same fields in their order, but for `status`, which
 * is the task's own, one of six words, and the state `failed`.
 */
export function toStableTask(task: Task): CoderTask {
  const first = toCoderTask(task);
  const { currentState } = task;
  const isFailed = currentState?.state === TaskState.FAILED;
  return {
    id: first.id,
    organization_id: first.organization_id,
    owner_id: first.owner_id,
    owner_name: first.owner_name,
    ...(first.owner_avatar_url === undefined ? {} : { owner_avatar_url: first.owner_avatar_url }),
    name: first.name,
    display_name: first.display_name,
    template_id: first.template_id,
    template_version_id: first.template_version_id,
    template_name: first.template_name,
    template_display_name: first.template_display_name,
    template_icon: first.template_icon,
    workspace_id: first.workspace_id,
    workspace_name: first.workspace_name,
    ...(first.workspace_status === undefined ? {} : { workspace_status: first.workspace_status }),
    ...(first.workspace_build_number === undefined ? {} : { workspace_build_number: first.workspace_build_number }),
    workspace_agent_id: first.workspace_agent_id,
    workspace_agent_lifecycle: first.workspace_agent_lifecycle,
    workspace_agent_health: first.workspace_agent_health,
    workspace_app_id: first.workspace_app_id,
    initial_prompt: first.initial_prompt,
    status: wordOf(taskStatusWords, task.phase) || 'unknown',
    current_state: first.current_state && (isFailed ? { ...first.current_state, state: failed } : first.current_state),
    created_at: first.created_at,
    updated_at: first.updated_at,
  };
}

/** The words for a task's own status, by phase. */
export const taskStatusWords = lowerCased(TaskPhase);

/** A time as Go prints it (RFC3339Nano): in UTC, with as many digits behind the second as it has, zeros at the end cut off. */
export function formatTime(time: Pick<Timestamp, 'seconds' | 'nanos'> | undefined): string {
  if (time === undefined) return '0001-01-01T00:00:00Z'; // Go's zero time
  const fraction = String(time.nanos).padStart(9, '0').replace(/0+$/, '');
  const second = new Date(Number(time.seconds) * 1000).toISOString().slice(0, 19);
  return fraction === '' ? `${second}Z` : `${second}.${fraction}Z`;
}

const statuses = lowerCased(WorkspaceStatus);
const lifecycles = lowerCased(AgentLifecycle);
/** The words of the database, which are the ones that Coder sends. */
const states: ReadonlyMap<number, string> = new Map([...lowerCased(TaskState), [TaskState.FAILED, 'failure']]);

function lowerCased(values: Readonly<Record<string, number | string>>): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(values)
      .filter((entry): entry is [string, number] => typeof entry[1] === 'number' && entry[1] !== 0)
      .map(([name, value]) => [value, name.toLowerCase()]),
  );
}

function wordOf(words: ReadonlyMap<number, string>, value: number): string {
  return words.get(value) ?? '';
}
