import type { Subject } from '../scope.ts';
import type { AgentStatus } from './agent-status.ts';

/**
 * A task as `TaskRepository` reads it: columns of `workspace_tasks`, and names joined by primary key. Columns are spelled as in
 * SQL. Times are text in UTC with microseconds; ids are 16 bytes.
 */
export interface TaskRow {
  readonly id: Buffer;
  /** Null while the task has no workspace. It is the task's id only where workspaces are the tasks. */
  readonly workspace_id: Buffer | null;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly template_id: Buffer;
  readonly template_version_id: Buffer;
  /** 0 without a build. */
  readonly build_number: number;
  readonly agent_id: Buffer | null;
  /** AgentLifecycle, 0 without an agent. */
  readonly agent_lifecycle: number;
  readonly app_id: Buffer | null;
  readonly name: string;
  readonly display_name: string;
  readonly prompt: string;
  /** WorkspaceStatus, 0 without a workspace. */
  readonly status: number;
  /** TaskPhase. */
  readonly phase: number;
  /** TaskState, 0 without a current state. */
  readonly state: number;
  readonly state_at: string | null;
  readonly state_message: string;
  readonly state_uri: string;
  /** Of prompt, message and uri; 0 also where the projector has not counted them yet. */
  readonly texts_bytes: number;
  readonly favorite: 0 | 1;
  readonly dormant_at: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  /** From `users`; null when the owner's row is gone. */
  readonly owner_name: string | null;
  readonly owner_avatar_url: string | null;
  /** From `organizations`. */
  readonly organization_name: string | null;
  /** From `templates`. */
  readonly template_name: string | null;
  readonly template_display_name: string | null;
  readonly template_icon: string | null;
  /** From `workspaces`; null without one. */
  readonly workspace_name: string | null;
  readonly last_used_at: string | null;
  /** From `workspace_agents`, judged by the database's clock; null without an agent. */
  readonly agent_status: AgentStatus | null;
  /** The column that the list was ordered by, where the row does not have it anyway. */
  readonly sort_key: Buffer | null;
}

/** A task as a watch needs it: with all that scopes and queries ask about. */
export interface WatchedRow extends TaskRow {
  /** 1 unless it is deleted. */
  readonly live: 0 | 1;
  readonly build_id: Buffer;
  readonly name_fold: Buffer;
  /** The first 1,000 characters of the prompt, folded. */
  readonly prompt_fold: Buffer;
  /** From `workspace_builds`. */
  readonly has_external_agent: 0 | 1 | null;
  /** Whether the template has another active version; null when the template is gone. */
  readonly outdated: 0 | 1 | null;
  /** Whom its workspace is shared with, for reading. */
  readonly readers: readonly Subject[];
  /** Whom its workspace is shared with, whatever for. */
  readonly userAclIds: readonly string[];
  readonly groupAclIds: readonly string[];
  /** Those parameters of the latest build that were asked for. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
}

/** Added to `workspace_tasks.list_status` for a task that waits for input: people look for these most, so they have a place. */
export const waitingOffset = 16;

/** The statuses with which a task can wait for input: starting (2) and running (3). */
export const canWait: ReadonlySet<number> = new Set([2, 3]);

/** `workspace_task_acl.kind`: who a task is shared with. An organization is the group of all its members. */
export const aclKinds = { user: 1, group: 2 } as const;

/**
 * Added to `workspace_task_acl.kind` where the ACL names somebody without giving the right to read: `shared_with_user` and
 * `shared_with_group` mean these, too. The watches of programs from before that take such a row for a user who does not exist.
 */
export const namedOnlyOffset = 10;
