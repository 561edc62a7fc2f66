import { create } from '@bufbuild/protobuf';
import { type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { nanosOf, timestampSeconds } from '../db/datetime.ts';
import { formatUuid } from '../db/uuid.ts';
import {
  AgentLifecycle,
  type ListTasksResponse,
  ListTasksResponseSchema,
  type Task,
  type TaskPhase,
  TaskSchema,
  type TaskState,
  type WorkspaceStatus,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { AgentStatus } from './store/agent-status.ts';
import type { TaskRow } from './store/tables.ts';
import { isWaiting } from './store/task-row.ts';

/** A page of a list, before it takes the form in which it is sent. */
export interface TaskPage {
  readonly rows: readonly TaskRow[];
  /** Absent on the last page. */
  readonly nextPageToken?: string;
  /** How many tasks the list has, if that was asked for; `capped` when there are more. */
  readonly total?: { readonly size: number; readonly capped: boolean };
  /** From where WatchTasks tells what this page has not, if that was asked for and the query can be watched. */
  readonly resumeToken?: string;
}

/** The message for a page. */
export function toListTasksResponse({ rows, nextPageToken, total, resumeToken }: TaskPage, callerId: Buffer): ListTasksResponse {
  return create(ListTasksResponseSchema, {
    tasks: rows.map((row) => toTask(row, callerId)),
    count: rows.length,
    ...(nextPageToken === undefined ? {} : { nextPageToken }),
    ...(total === undefined ? {} : { totalSize: total.size, totalSizeCapped: total.capped }),
    ...(resumeToken === undefined ? {} : { resumeToken }),
  });
}

/** Turns a row into the message that a caller gets. Pure; `favorite` is told to the owner alone. */
export function toTask(row: TaskRow, callerId: Buffer): Task {
  return create(TaskSchema, {
    id: formatUuid(row.id),
    organizationId: formatUuid(row.organization_id),
    ownerId: formatUuid(row.owner_id),
    name: row.name,
    templateId: formatUuid(row.template_id),
    ...(row.workspace_id === null ? {} : { workspaceId: formatUuid(row.workspace_id) }),
    initialPrompt: row.prompt,
    status: row.status as WorkspaceStatus,
    ...(row.state_at === null
      ? {}
      : {
          currentState: {
            ...timeField('timestamp', row.state_at),
            state: row.state as TaskState,
            message: row.state_message,
            uri: row.state_uri,
          },
        }),
    ...timeField('createdAt', row.created_at),
    ...timeField('updatedAt', row.updated_at),
    ownerName: row.owner_name ?? '',
    ownerAvatarUrl: row.owner_avatar_url ?? '',
    displayName: row.display_name,
    organizationName: row.organization_name ?? '',
    templateName: row.template_name ?? '',
    templateDisplayName: row.template_display_name ?? '',
    templateIcon: row.template_icon ?? '',
    templateVersionId: formatUuid(row.template_version_id),
    workspaceName: row.workspace_name ?? '',
    workspaceBuildNumber: row.build_number,
    ...(row.agent_id === null
      ? {}
      : { workspaceAgentId: formatUuid(row.agent_id), workspaceAgentLifecycle: row.agent_lifecycle as AgentLifecycle }),
    ...(row.agent_status === null ? {} : { workspaceAgentHealth: toAgentHealth(row.agent_status, row.agent_lifecycle) }),
    ...(row.app_id === null ? {} : { workspaceAppId: formatUuid(row.app_id) }),
    phase: row.phase as TaskPhase,
    favorite: row.favorite === 1 && row.owner_id.equals(callerId),
    ...(row.last_used_at === null || isNeverUsed(row.last_used_at) ? {} : timeField('lastUsedAt', row.last_used_at)),
    ...(row.dormant_at === null ? {} : timeField('dormantAt', row.dormant_at)),
    ...(row.state_at !== null && isWaiting(row) ? timeField('waitingSince', row.state_at) : {}),
  });
}

/** Whether a time of last use is Go's zero time, which `workspaces.last_used_at` is before the first. */
export function isNeverUsed(datetime: string): boolean {
  return datetime === '0001-01-01 00:00:00.000000';
}

/** Whether an agent is well, and if not, why: the first reason that holds (coderd/database/db2sdk, WorkspaceAgent). */
export function toAgentHealth(status: AgentStatus, lifecycle: number): { healthy: boolean; reason?: string } {
  const reason = unhealthyReason(status, lifecycle);
  return reason === undefined ? { healthy: true } : { healthy: false, reason };
}

function unhealthyReason(status: AgentStatus, lifecycle: number): string | undefined {
  if (status !== 'connected' && lifecycle === AgentLifecycle.OFF) return 'agent is not running';
  switch (status) {
    case 'connecting':
      return 'agent has not yet connected';
    case 'timeout':
      return 'agent is taking too long to connect';
    case 'disconnected':
      return 'agent has lost connection';
    case 'connected':
  }
  switch (lifecycle) {
    case AgentLifecycle.START_ERROR:
      return 'agent startup script exited with an error';
    case AgentLifecycle.SHUTTING_DOWN:
    case AgentLifecycle.SHUTDOWN_TIMEOUT:
    case AgentLifecycle.SHUTDOWN_ERROR:
    case AgentLifecycle.OFF:
      return 'agent is shutting down';
    default:
      return undefined;
  }
}

/** A time as a field of a message. An invalid time is left out: it must not fail the other tasks of a list. */
function timeField<Name extends string>(name: Name, datetime: string): { readonly [K in Name]?: Timestamp } {
  const seconds = timestampSeconds(datetime);
  if (seconds === undefined) return {};
  const time = create(TimestampSchema, { seconds: BigInt(seconds), nanos: nanosOf(datetime) });
  return { [name]: time } as { readonly [K in Name]: Timestamp };
}
