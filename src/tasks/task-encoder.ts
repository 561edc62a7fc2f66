import { TimestampSchema } from '@bufbuild/protobuf/wkt';
import { nanosOf, timestampSeconds } from '../db/datetime.ts';
import {
  AgentHealthSchema,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  TaskSchema,
  TaskStateEntrySchema,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { TaskRow } from './store/tables.ts';
import { isWaiting } from './store/task-row.ts';
import { isNeverUsed, type TaskPage, toAgentHealth } from './task-mapper.ts';
import { tagOf, WireWriter } from './wire-writer.ts';

// The same answers as those of task-mapper.ts in their binary form, straight from the rows: a message that is written once and
// thrown away costs several times as much as what stands here. Fields stand in the order of their numbers, as the library has
// them, so that its bytes are the same; a property test compares the two.

const writer = new WireWriter();

/** A `ListTasksResponse` in its binary form. */
export function encodeListTasksResponse(page: TaskPage, callerId: Buffer): Buffer<ArrayBuffer> {
  writer.reset();
  for (const row of page.rows) writeTask(list.tasks, row, callerId);
  if (page.nextPageToken !== undefined) writer.text(list.nextPageToken, page.nextPageToken);
  if (page.rows.length > 0) writer.number(list.count, page.rows.length);
  if (page.total !== undefined) {
    writer.number(list.totalSize, page.total.size);
    if (page.total.capped) writer.number(list.totalSizeCapped, 1);
  }
  if (page.resumeToken !== undefined) writer.text(list.resumeToken, page.resumeToken);
  return writer.toBytes();
}

/** A `GetTaskResponse` in its binary form. */
export function encodeGetTaskResponse(row: TaskRow, callerId: Buffer): Buffer<ArrayBuffer> {
  writer.reset();
  writeTask(get.task, row, callerId);
  return writer.toBytes();
}

const list = {
  tasks: tagOf(ListTasksResponseSchema.field.tasks, 'bytes'),
  nextPageToken: tagOf(ListTasksResponseSchema.field.nextPageToken, 'bytes'),
  count: tagOf(ListTasksResponseSchema.field.count, 'varint'),
  totalSize: tagOf(ListTasksResponseSchema.field.totalSize, 'varint'),
  totalSizeCapped: tagOf(ListTasksResponseSchema.field.totalSizeCapped, 'varint'),
  resumeToken: tagOf(ListTasksResponseSchema.field.resumeToken, 'bytes'),
};

const get = { task: tagOf(GetTaskResponseSchema.field.task, 'bytes') };

const task = {
  id: tagOf(TaskSchema.field.id, 'bytes'),
  organizationId: tagOf(TaskSchema.field.organizationId, 'bytes'),
  ownerId: tagOf(TaskSchema.field.ownerId, 'bytes'),
  name: tagOf(TaskSchema.field.name, 'bytes'),
  templateId: tagOf(TaskSchema.field.templateId, 'bytes'),
  workspaceId: tagOf(TaskSchema.field.workspaceId, 'bytes'),
  initialPrompt: tagOf(TaskSchema.field.initialPrompt, 'bytes'),
  status: tagOf(TaskSchema.field.status, 'varint'),
  currentState: tagOf(TaskSchema.field.currentState, 'bytes'),
  createdAt: tagOf(TaskSchema.field.createdAt, 'bytes'),
  updatedAt: tagOf(TaskSchema.field.updatedAt, 'bytes'),
  ownerName: tagOf(TaskSchema.field.ownerName, 'bytes'),
  ownerAvatarUrl: tagOf(TaskSchema.field.ownerAvatarUrl, 'bytes'),
  displayName: tagOf(TaskSchema.field.displayName, 'bytes'),
  organizationName: tagOf(TaskSchema.field.organizationName, 'bytes'),
  templateName: tagOf(TaskSchema.field.templateName, 'bytes'),
  templateDisplayName: tagOf(TaskSchema.field.templateDisplayName, 'bytes'),
  templateIcon: tagOf(TaskSchema.field.templateIcon, 'bytes'),
  templateVersionId: tagOf(TaskSchema.field.templateVersionId, 'bytes'),
  workspaceName: tagOf(TaskSchema.field.workspaceName, 'bytes'),
  workspaceBuildNumber: tagOf(TaskSchema.field.workspaceBuildNumber, 'varint'),
  workspaceAgentId: tagOf(TaskSchema.field.workspaceAgentId, 'bytes'),
  workspaceAgentLifecycle: tagOf(TaskSchema.field.workspaceAgentLifecycle, 'varint'),
  workspaceAgentHealth: tagOf(TaskSchema.field.workspaceAgentHealth, 'bytes'),
  workspaceAppId: tagOf(TaskSchema.field.workspaceAppId, 'bytes'),
  phase: tagOf(TaskSchema.field.phase, 'varint'),
  favorite: tagOf(TaskSchema.field.favorite, 'varint'),
  lastUsedAt: tagOf(TaskSchema.field.lastUsedAt, 'bytes'),
  dormantAt: tagOf(TaskSchema.field.dormantAt, 'bytes'),
  waitingSince: tagOf(TaskSchema.field.waitingSince, 'bytes'),
};

const state = {
  timestamp: tagOf(TaskStateEntrySchema.field.timestamp, 'bytes'),
  state: tagOf(TaskStateEntrySchema.field.state, 'varint'),
  message: tagOf(TaskStateEntrySchema.field.message, 'bytes'),
  uri: tagOf(TaskStateEntrySchema.field.uri, 'bytes'),
};

const health = {
  healthy: tagOf(AgentHealthSchema.field.healthy, 'varint'),
  reason: tagOf(AgentHealthSchema.field.reason, 'bytes'),
};

const timestamp = {
  seconds: tagOf(TimestampSchema.field.seconds, 'varint'),
  nanos: tagOf(TimestampSchema.field.nanos, 'varint'),
};

function writeTask(tag: number, row: TaskRow, callerId: Buffer): void {
  const start = writer.begin(tag, 2);
  writer.uuid(task.id, row.id);
  writer.uuid(task.organizationId, row.organization_id);
  writer.uuid(task.ownerId, row.owner_id);
  writeText(task.name, row.name);
  writer.uuid(task.templateId, row.template_id);
  if (row.workspace_id !== null) writer.uuid(task.workspaceId, row.workspace_id);
  writeText(task.initialPrompt, row.prompt);
  writeNumber(task.status, row.status);
  if (row.state_at !== null) {
    const entry = writer.begin(task.currentState, 2);
    writeTime(state.timestamp, row.state_at);
    writeNumber(state.state, row.state);
    writeText(state.message, row.state_message);
    writeText(state.uri, row.state_uri);
    writer.end(entry, 2);
  }
  writeTime(task.createdAt, row.created_at);
  writeTime(task.updatedAt, row.updated_at);
  writeText(task.ownerName, row.owner_name);
  writeText(task.ownerAvatarUrl, row.owner_avatar_url);
  writeText(task.displayName, row.display_name);
  writeText(task.organizationName, row.organization_name);
  writeText(task.templateName, row.template_name);
  writeText(task.templateDisplayName, row.template_display_name);
  writeText(task.templateIcon, row.template_icon);
  writer.uuid(task.templateVersionId, row.template_version_id);
  writeText(task.workspaceName, row.workspace_name);
  writeNumber(task.workspaceBuildNumber, row.build_number);
  if (row.agent_id !== null) {
    writer.uuid(task.workspaceAgentId, row.agent_id);
    writer.number(task.workspaceAgentLifecycle, row.agent_lifecycle);
  }
  if (row.agent_status !== null) {
    const { healthy, reason } = toAgentHealth(row.agent_status, row.agent_lifecycle);
    const entry = writer.begin(task.workspaceAgentHealth, 1);
    if (healthy) writer.number(health.healthy, 1);
    if (reason !== undefined) writer.text(health.reason, reason);
    writer.end(entry, 1);
  }
  if (row.app_id !== null) writer.uuid(task.workspaceAppId, row.app_id);
  writeNumber(task.phase, row.phase);
  if (row.favorite === 1 && row.owner_id.equals(callerId)) writer.number(task.favorite, 1);
  if (row.last_used_at !== null && !isNeverUsed(row.last_used_at)) writeTime(task.lastUsedAt, row.last_used_at);
  if (row.dormant_at !== null) writeTime(task.dormantAt, row.dormant_at);
  if (row.state_at !== null && isWaiting(row)) writeTime(task.waitingSince, row.state_at);
  writer.end(start, 2);
}

function writeText(tag: number, text: string | null): void {
  if (text !== null && text !== '') writer.text(tag, text);
}

function writeNumber(tag: number, value: number): void {
  if (value !== 0) writer.number(tag, value);
}

/** An invalid time is left out, as in task-mapper.ts: it must not fail the other tasks of a list. */
function writeTime(tag: number, datetime: string): void {
  const seconds = timestampSeconds(datetime);
  if (seconds === undefined) return;
  const start = writer.begin(tag, 1);
  writeNumber(timestamp.seconds, seconds);
  writeNumber(timestamp.nanos, nanosOf(datetime));
  writer.end(start, 1);
}
