import { foldCase } from '../db/letter-case.ts';
import { parseUuid } from '../db/uuid.ts';
import { AgentLifecycle, TaskPhase, TaskState, WorkspaceStatus } from '../gen/tasks/v1/tasks_pb.ts';
import { aclKinds, canWait, namedOnlyOffset, waitingOffset } from '../tasks/store/tables.ts';
import type { SourcedTask } from './sourced-task.ts';
import { maxAclLength } from './workspace-facts.ts';

/** A row of `workspace_tasks`. Columns are spelled as in SQL; the migration says what each holds. */
export interface ProjectedRow {
  readonly id: Buffer;
  readonly workspace_id: Buffer | null;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly template_id: Buffer;
  readonly template_version_id: Buffer;
  readonly build_template_version_id: Buffer;
  readonly build_id: Buffer;
  readonly build_number: number;
  readonly agent_id: Buffer | null;
  readonly agent_lifecycle: number;
  readonly app_id: Buffer | null;
  readonly name: string;
  readonly name_fold: Buffer;
  readonly display_name: string;
  readonly prompt: string;
  readonly prompt_fold: Buffer;
  readonly texts_bytes: number;
  readonly name_indexed: Buffer;
  readonly live: 0 | 1;
  readonly status: number;
  readonly list_status: number;
  readonly phase: number;
  readonly state: number;
  readonly state_at: string | null;
  readonly state_message: string;
  readonly state_uri: string;
  readonly favorite: 0 | 1;
  readonly own_key: Buffer;
  readonly run_key: Buffer;
  readonly dormant_at: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}

/** A row of `workspace_task_acl`: a user or group with whom the workspace of a task is shared. */
export interface ProjectedAcl {
  /** One of `aclKinds`, plus `namedOnlyOffset` for a subject who may not read the task. */
  readonly kind: number;
  readonly subject_id: Buffer;
  readonly created_at: string;
  readonly task_id: Buffer;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
}

/** The rows of the read model for a task. */
export interface ProjectedTask {
  readonly row: ProjectedRow;
  readonly acl: readonly ProjectedAcl[];
}

/** How many characters of a prompt can be searched, and the width of their column in bytes. */
const foldedCharacters = 1000;
const maxPromptFoldBytes = 4096;

/** Most bytes of a prompt in the read model, the ellipsis of a cut one included: 1 MiB. */
const maxPromptBytes = 1_048_576;

/** Most bytes of a folded name, and of the name in `own_key` and `run_key`, whose other parts are subtracted from their width. */
const maxFoldBytes = 256;
const maxKeyNameBytes = 100 - 2 - 1 - 16;

/** Stands for the id of the build where there is no build. */
const noBuild = Buffer.alloc(16);

/**
 * Derives the rows of the read model.
 *
 * It is a pure function: the same facts always make the same rows. The rules are Coder's, each with its source at the function
 * that implements it, except where docs/coder-differences.md says otherwise.
 *
 * @throws {RangeError} when one of its ACLs is too long to be read.
 */
export function projectTask(task: SourcedTask): ProjectedTask {
  const { deleted, agent, app, build } = task;
  if (task.aclIsCut && !deleted) throw new RangeError('user_acl or group_acl is longer than max_allowed_packet');
  const status = deleted || task.workspaceDeleted ? WorkspaceStatus.DELETED : workspaceStatus(task);
  const phase = deleted ? TaskPhase.PAUSED : taskPhase(task);
  const state = currentState(task, phase);
  const prompt = cutPrompt(task.prompt);
  const fold = Buffer.from(foldCase(task.name));
  const nameFold = cutBytes(fold, maxFoldBytes);
  const key = Buffer.concat([Buffer.of(isRunning(task) ? 0 : 1), cutBytes(fold, maxKeyNameBytes), Buffer.of(0), task.id]);
  const favorite = task.favorite ? 1 : 0;
  // The phase can be that of a build before the latest one: then the workspace may be stopped.
  const waiting = canWait.has(status) && phase === TaskPhase.ACTIVE && state?.state === TaskState.IDLE;

  const row: ProjectedRow = {
    id: task.id,
    workspace_id: task.workspaceId,
    owner_id: task.ownerId,
    organization_id: task.organizationId,
    template_id: task.templateId,
    template_version_id: task.templateVersionId,
    build_template_version_id: build?.templateVersionId ?? task.templateVersionId,
    build_id: build?.id ?? noBuild,
    build_number: task.buildNumber,
    agent_id: agent?.id ?? null,
    agent_lifecycle: lifecycles.get(agent?.lifecycle ?? '') ?? AgentLifecycle.UNSPECIFIED,
    app_id: app?.id ?? null,
    name: task.name,
    name_fold: nameFold,
    display_name: task.displayName ?? displayName(prompt),
    prompt,
    prompt_fold: promptFold(prompt),
    texts_bytes: Buffer.byteLength(prompt) + Buffer.byteLength(state?.message ?? '') + Buffer.byteLength(state?.uri ?? ''),
    name_indexed: deleted ? Buffer.alloc(0) : nameFold,
    live: deleted ? 0 : 1,
    status,
    list_status: waiting ? status + waitingOffset : status,
    phase,
    state: state?.state ?? TaskState.UNSPECIFIED,
    state_at: state?.at ?? null,
    state_message: state?.message ?? '',
    state_uri: state?.uri ?? '',
    favorite,
    own_key: Buffer.concat([Buffer.of(1 - favorite), key]),
    run_key: key,
    dormant_at: task.dormantAt,
    created_at: task.createdAt,
    updated_at: task.updatedAt,
  };
  const acl = deleted ? [] : [...aclRows(row, aclKinds.user, task.userAcl), ...aclRows(row, aclKinds.group, task.groupAcl)];
  return { row, acl };
}

/** codersdk/provisionerdaemons.go, ConvertWorkspaceStatus. A build whose job is not there yet is pending. */
function workspaceStatus({ build }: SourcedTask): number {
  if (build === undefined) return WorkspaceStatus.UNSPECIFIED;
  switch (build.jobStatus ?? 'pending') {
    case 'pending':
      return WorkspaceStatus.PENDING;
    case 'running':
      return duringTransition.get(build.transition) ?? WorkspaceStatus.FAILED;
    case 'succeeded':
      return afterTransition.get(build.transition) ?? WorkspaceStatus.FAILED;
    case 'canceling':
      return WorkspaceStatus.CANCELING;
    case 'canceled':
      return WorkspaceStatus.CANCELED;
    default:
      return WorkspaceStatus.FAILED;
  }
}

const duringTransition: ReadonlyMap<string, number> = new Map([
  ['start', WorkspaceStatus.STARTING],
  ['stop', WorkspaceStatus.STOPPING],
  ['delete', WorkspaceStatus.DELETING],
]);

const afterTransition: ReadonlyMap<string, number> = new Map([
  ['start', WorkspaceStatus.RUNNING],
  ['stop', WorkspaceStatus.STOPPED],
  ['delete', WorkspaceStatus.DELETED],
]);

/** Whether the default order lists the task among the running ones (queries/workspaces.sql at 427b23f, the order's "running"). */
function isRunning({ build }: SourcedTask): boolean {
  return build?.jobCompleted === true && !build.jobCanceled && !build.jobError && build.transition === 'start';
}

/**
 * The phase of a task: that of its build; when that is "active", that of its agent; when that is "active" too, that of its app
 * (the view tasks_with_status, coderd/database/migrations/000415_fix_task_pending_status.up.sql).
 */
function taskPhase({ phaseBuild, agent, app }: SourcedTask): number {
  const build = buildPhase(phaseBuild);
  if (build !== TaskPhase.ACTIVE) return build;
  const phase = agentPhase(agent?.lifecycle);
  return phase === TaskPhase.ACTIVE ? appPhase(app?.health) : phase;
}

function buildPhase(build: SourcedTask['phaseBuild']): number {
  if (build === undefined || build.jobStatus === null) return TaskPhase.PENDING;
  const { jobStatus, transition } = build;
  if (jobStatus === 'failed' || jobStatus === 'canceling' || jobStatus === 'canceled') return TaskPhase.ERROR;
  if (transition === 'start') {
    if (jobStatus === 'pending') return TaskPhase.PENDING;
    return jobStatus === 'running' || jobStatus === 'succeeded' ? TaskPhase.ACTIVE : TaskPhase.UNKNOWN;
  }
  const ends = transition === 'stop' || transition === 'delete';
  return ends && jobStatus === 'succeeded' ? TaskPhase.PAUSED : TaskPhase.UNKNOWN;
}

function agentPhase(lifecycle: string | undefined): number {
  switch (lifecycle) {
    case undefined:
    case 'created':
    case 'starting':
      return TaskPhase.INITIALIZING;
    case 'ready':
    case 'start_timeout':
    case 'start_error':
      return TaskPhase.ACTIVE;
    default:
      return TaskPhase.UNKNOWN;
  }
}

function appPhase(health: string | undefined): number {
  switch (health) {
    case 'initializing':
      return TaskPhase.INITIALIZING;
    case 'healthy':
    case 'disabled':
      return TaskPhase.ACTIVE;
    case 'unhealthy':
      return TaskPhase.ERROR;
    default:
      return TaskPhase.UNKNOWN;
  }
}

const lifecycles: ReadonlyMap<string, number> = new Map([
  ['created', AgentLifecycle.CREATED],
  ['starting', AgentLifecycle.STARTING],
  ['start_timeout', AgentLifecycle.START_TIMEOUT],
  ['start_error', AgentLifecycle.START_ERROR],
  ['ready', AgentLifecycle.READY],
  ['shutting_down', AgentLifecycle.SHUTTING_DOWN],
  ['shutdown_timeout', AgentLifecycle.SHUTDOWN_TIMEOUT],
  ['shutdown_error', AgentLifecycle.SHUTDOWN_ERROR],
  ['off', AgentLifecycle.OFF],
]);

interface CurrentState {
  readonly state: number;
  readonly at: string;
  readonly message: string;
  readonly uri: string;
}

const states: ReadonlyMap<string, number> = new Map([
  ['working', TaskState.WORKING],
  ['idle', TaskState.IDLE],
  ['complete', TaskState.COMPLETE],
  ['failure', TaskState.FAILED],
]);

/**
 * The agent's last report, unless it is older than the last start of the workspace; while the task initializes without a report,
 * the progress of the start (coderd/aitasks.go, deriveTaskCurrentState). A report with an unknown state is ignored.
 */
function currentState(task: SourcedTask, phase: number): CurrentState | undefined {
  const { report, build } = task;
  const state = states.get(report?.state ?? '');
  // Times of this format sort as text.
  const isFresh = report !== undefined && (build?.transition !== 'start' || report.createdAt > build.createdAt);
  if (state !== undefined && isFresh) return { state, at: report.createdAt, message: report.message, uri: report.uri ?? '' };
  if (phase !== TaskPhase.INITIALIZING || build === undefined) return undefined;
  return { state: TaskState.WORKING, at: build.createdAt, message: progress(task), uri: '' };
}

/** The messages of deriveTaskCurrentState. */
function progress(task: SourcedTask): string {
  const status = workspaceStatus(task);
  if (status === WorkspaceStatus.PENDING) return 'Workspace is pending';
  if (status === WorkspaceStatus.STARTING) return 'Workspace is starting';
  const lifecycle = task.agent?.lifecycle;
  switch (lifecycle) {
    case undefined:
      return 'Initializing workspace';
    case 'created':
      return 'Agent is connecting';
    case 'starting':
      return 'Agent is starting';
    case 'ready':
      return task.app?.health === 'initializing' ? 'App is initializing' : 'Initializing workspace applications';
    default:
      return 'Initializing workspace agent';
  }
}

/** The prompt, cut between two characters with an ellipsis when it has more than 1 MiB. */
function cutPrompt(prompt: Buffer | null): string {
  if (prompt === null) return '';
  if (prompt.length <= maxPromptBytes) return prompt.toString();
  return `${cutBytes(prompt, maxPromptBytes - Buffer.byteLength('…')).toString()}…`;
}

/** What `prompt:` searches: the first 1,000 characters, lower-cased, cut to the column's width. */
function promptFold(prompt: string): Buffer {
  const head = [...prompt.slice(0, 2 * foldedCharacters)].slice(0, foldedCharacters).join('');
  return cutBytes(Buffer.from(foldCase(head)), maxPromptFoldBytes);
}

/**
 * A title: the prompt with its line breaks and tabs as single spaces, of more than 64 characters the first 63 and an ellipsis
 * (coderd/database/migrations/000400_add_task_display_name.up.sql, where LENGTH and LEFT count characters).
 */
function displayName(prompt: string): string {
  const line = prompt.replace(/[\n\r\t]+/g, ' ');
  const characters = [...line.slice(0, 2 * 65)].slice(0, 65); // a character has at most two code units
  return characters.length > 64 ? `${characters.slice(0, 63).join('')}…` : characters.join('');
}

/** The first bytes of a UTF-8 text, cut between two characters. */
function cutBytes(text: Buffer, length: number): Buffer {
  if (text.length <= length) return text;
  let end = length;
  while (end > 0 && ((text[end] ?? 0) & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}

/**
 * The subjects that the workspace's ACL names. Those whose permissions hold `read` or `*` may read the task
 * (coderd/rbac/policy.rego, modelmethods.go RBACObject). Coder compares ids as text in lower case. Malformed entries are ignored.
 */
function aclRows(row: ProjectedRow, kind: number, json: string | null): ProjectedAcl[] {
  const { created_at, id: task_id, owner_id, organization_id } = row;
  const rows: ProjectedAcl[] = [];
  for (const [subject, entry] of Object.entries(parseObject(json))) {
    const subject_id = subject === subject.toLowerCase() ? parseUuid(subject) : undefined;
    const { permissions } = Object(entry) as { permissions?: unknown };
    if (subject_id === undefined) continue;
    const reads = Array.isArray(permissions) && (permissions.includes('read') || permissions.includes('*'));
    rows.push({ kind: reads ? kind : kind + namedOnlyOffset, subject_id, created_at, task_id, owner_id, organization_id });
  }
  return rows;
}

function parseObject(json: string | null): object {
  if (json !== null && json.length > maxAclLength) {
    throw new RangeError(`user_acl or group_acl has more than ${maxAclLength} characters`);
  }
  try {
    const value: unknown = JSON.parse(json ?? '');
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}
