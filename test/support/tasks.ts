import { randomUUID } from 'node:crypto';
import type { Database } from '../../src/db/connection.ts';
import { foldCase } from '../../src/db/letter-case.ts';
import { parseUuid } from '../../src/db/uuid.ts';
import { TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';

/** A fresh random id. */
export function newId(): Buffer {
  return parseUuid(randomUUID()) as Buffer;
}

/** What a test says of a task; the rest is filled in. */
export interface TaskInit {
  readonly id?: Buffer;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  readonly templateId?: Buffer;
  readonly name?: string;
  readonly prompt?: string;
  readonly message?: string;
  readonly status?: number;
  readonly waiting?: boolean;
  readonly running?: boolean;
  readonly favorite?: boolean;
  readonly deleted?: boolean;
  readonly createdAt?: string;
  /** TaskPhase and TaskState, of a task that does not wait. */
  readonly phase?: number;
  readonly state?: number;
  /** When its state was reported; null for none. */
  readonly stateAt?: string | null;
}

let made = 0;

/** A row of the read model, its derived columns made as the projector makes them. */
export function aTask(init: TaskInit): Record<string, unknown> & { id: Buffer } {
  const id = init.id ?? newId();
  const status = init.deleted === true ? WorkspaceStatus.DELETED : (init.status ?? WorkspaceStatus.RUNNING);
  const running = init.running ?? status === WorkspaceStatus.RUNNING;
  const name = init.name ?? `task-${String(++made).padStart(6, '0')}`;
  const fold = Buffer.from(foldCase(name));
  const runKey = Buffer.concat([Buffer.of(running ? 0 : 1), fold, Buffer.of(0), id]);
  const favorite = init.favorite === true ? 1 : 0;
  const usualTime = '2026-01-01 00:00:00.000000';
  // What waits has a state.
  const stateAt = init.stateAt === undefined || (init.stateAt === null && init.waiting === true) ? usualTime : init.stateAt;
  return {
    id,
    workspace_id: id,
    owner_id: init.ownerId,
    organization_id: init.organizationId,
    template_id: init.templateId ?? newId(),
    template_version_id: newId(),
    build_template_version_id: newId(),
    build_id: newId(),
    build_number: 1,
    agent_id: null,
    agent_lifecycle: 0,
    app_id: null,
    name,
    name_fold: fold,
    display_name: '',
    prompt: init.prompt ?? 'Do it',
    prompt_fold: Buffer.from((init.prompt ?? 'Do it').slice(0, 1000).toLowerCase()),
    texts_bytes: Buffer.byteLength(init.prompt ?? 'Do it') + Buffer.byteLength(init.message ?? ''),
    live: init.deleted === true ? 0 : 1,
    status,
    list_status: status + (init.waiting === true ? 16 : 0),
    phase: init.phase ?? (init.deleted === true ? TaskPhase.PAUSED : TaskPhase.ACTIVE),
    state: stateAt === null ? TaskState.UNSPECIFIED : init.waiting === true ? TaskState.IDLE : (init.state ?? TaskState.WORKING),
    state_at: stateAt,
    state_message: init.message ?? '',
    state_uri: '',
    favorite,
    own_key: Buffer.concat([Buffer.of(1 - favorite), runKey]),
    run_key: runKey,
    dormant_at: null,
    created_at: init.createdAt ?? '2026-01-01 00:00:00.000000',
    updated_at: '2026-01-01 00:00:00.000000',
  };
}

/** Writes tasks straight into the read model, 500 a statement. */
export async function insertTasks(database: Database, tasks: readonly Record<string, unknown>[]): Promise<void> {
  for (let at = 0; at < tasks.length; at += 500) await database('workspace_tasks').insert(tasks.slice(at, at + 500));
}
