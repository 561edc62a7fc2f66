import { foldCase } from '../db/letter-case.ts';
import { parseUuid } from '../db/uuid.ts';
import { AgentLifecycle, TaskPhase, TaskState, WorkspaceStatus } from '../gen/tasks/v1/tasks_pb.ts';
import { aclKinds, namedOnlyOffset, waitingOffset } from '../tasks/store/tables.ts';
import { maxAclLength, type TaskFacts } from './task-facts.ts';

/** A row of `workspace_tasks`. Columns are spelled as in SQL; the migration says what each holds. */
export interface ProjectedRow {
  readonly id: Buffer;
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

/** The rows of the read model for a workspace that is a task. */
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

/**
 * Derives a row of the read model, or undefined when the workspace is not a task.
 *
 * It is a pure function: the same facts always make the same row. The rules are Coder's, each with its source at the function
 * that implements it, except where docs/coder-differences.md says otherwise.
 *
 * @throws {RangeError} when one of its ACLs is too long to be read.
 */
export function projectTask(facts: TaskFacts): ProjectedTask | undefined {
  const { build_id, build_number, build_template_version_id } = facts;
  if (!isTask(facts)) return undefined;
  // A task has a build: the check is for the compiler.
  if (build_id === null || build_number === null || build_template_version_id === null) return undefined;

  const deleted = facts.deleted !== 0;
  if (facts.acl_is_cut === 1 && !deleted) throw new RangeError('user_acl or group_acl is longer than max_allowed_packet');
  const { agent, app } = choose(facts);
  const status = deleted ? WorkspaceStatus.DELETED : workspaceStatus(facts);
  const phase = deleted ? TaskPhase.PAUSED : taskPhase(facts, agent?.lifecycle, app?.health);
  const state = currentState(facts, phase, agent?.lifecycle, app?.health);
  const prompt = cutPrompt(facts.prompt);
  const fold = Buffer.from(foldCase(facts.name));
  const nameFold = cutBytes(fold, maxFoldBytes);
  const key = Buffer.concat([Buffer.of(isRunning(facts) ? 0 : 1), cutBytes(fold, maxKeyNameBytes), Buffer.of(0), facts.id]);
  const favorite = facts.favorite === 0 ? 0 : 1;
  const waiting = phase === TaskPhase.ACTIVE && state?.state === TaskState.IDLE;

  const row: ProjectedRow = {
    id: facts.id,
    owner_id: facts.owner_id,
    organization_id: facts.organization_id,
    template_id: facts.template_id,
    template_version_id: facts.first_template_version_id ?? build_template_version_id,
    build_template_version_id,
    build_id,
    build_number,
    agent_id: agent?.id ?? null,
    agent_lifecycle:
      agent === undefined ? AgentLifecycle.UNSPECIFIED : (lifecycles.get(agent.lifecycle) ?? AgentLifecycle.UNSPECIFIED),
    app_id: app?.id ?? null,
    name: facts.name,
    name_fold: nameFold,
    display_name: displayName(prompt),
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
    dormant_at: facts.dormant_at,
    created_at: facts.created_at,
    updated_at: facts.updated_at,
  };
  const acl = deleted ? [] : [...aclRows(row, aclKinds.user, facts.user_acl), ...aclRows(row, aclKinds.group, facts.group_acl)];
  return { row, acl };
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

/** codersdk/provisionerdaemons.go, ConvertWorkspaceStatus. A build whose job is not there yet is pending. */
function workspaceStatus({ job_status, build_transition }: TaskFacts): number {
  switch (job_status ?? 'pending') {
    case 'pending':
      return WorkspaceStatus.PENDING;
    case 'running':
      return duringTransition.get(build_transition ?? '') ?? WorkspaceStatus.FAILED;
    case 'succeeded':
      return afterTransition.get(build_transition ?? '') ?? WorkspaceStatus.FAILED;
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
function isRunning(facts: TaskFacts): boolean {
  return facts.job_completed === 1 && facts.job_canceled === 0 && facts.job_error === 0 && facts.build_transition === 'start';
}

/**
 * The phase of a task: that of its build; when that is "active", that of its agent; when that is "active" too, that of its app
 * (the view tasks_with_status, coderd/database/migrations/000415_fix_task_pending_status.up.sql).
 */
function taskPhase(facts: TaskFacts, lifecycle: string | undefined, health: string | undefined): number {
  const build = buildPhase(facts);
  if (build !== TaskPhase.ACTIVE) return build;
  const agent = agentPhase(lifecycle);
  return agent === TaskPhase.ACTIVE ? appPhase(health) : agent;
}

function buildPhase({ job_status, build_transition }: TaskFacts): number {
  if (job_status === null) return TaskPhase.PENDING;
  if (job_status === 'failed' || job_status === 'canceling' || job_status === 'canceled') return TaskPhase.ERROR;
  if (build_transition === 'start') {
    if (job_status === 'pending') return TaskPhase.PENDING;
    return job_status === 'running' || job_status === 'succeeded' ? TaskPhase.ACTIVE : TaskPhase.UNKNOWN;
  }
  const ends = build_transition === 'stop' || build_transition === 'delete';
  return ends && job_status === 'succeeded' ? TaskPhase.PAUSED : TaskPhase.UNKNOWN;
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

interface Chosen {
  readonly agent: { readonly id: Buffer; readonly lifecycle: string } | undefined;
  readonly app: { readonly id: Buffer; readonly health: string } | undefined;
}

/**
 * Which agent runs the task, and through which app it reports: the app that the latest build names (`ai_task_sidebar_app_id`) and
 * that app's agent, as Coder filled its table task_workspace_apps (migrations/000387_migrate_task_workspaces.up.sql). A build
 * that is still running names none: then its only app with that app's agent, or else its only agent.
 */
function choose(facts: TaskFacts): Chosen {
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
function currentState(
  facts: TaskFacts,
  phase: number,
  lifecycle: string | undefined,
  health: string | undefined,
): CurrentState | undefined {
  const { status_state, status_created_at: at, build_created_at } = facts;
  const state = states.get(status_state ?? '');
  // Times of this format sort as text.
  const isFresh = at !== null && (facts.build_transition !== 'start' || at > (build_created_at ?? ''));
  if (state !== undefined && isFresh) {
    return { state, at, message: facts.status_message ?? '', uri: facts.status_uri ?? '' };
  }
  if (phase !== TaskPhase.INITIALIZING || build_created_at === null) return undefined;
  return { state: TaskState.WORKING, at: build_created_at, message: progress(facts, lifecycle, health), uri: '' };
}

/** The messages of deriveTaskCurrentState. */
function progress(facts: TaskFacts, lifecycle: string | undefined, health: string | undefined): string {
  const status = workspaceStatus(facts);
  if (status === WorkspaceStatus.PENDING) return 'Workspace is pending';
  if (status === WorkspaceStatus.STARTING) return 'Workspace is starting';
  switch (lifecycle) {
    case undefined:
      return 'Initializing workspace';
    case 'created':
      return 'Agent is connecting';
    case 'starting':
      return 'Agent is starting';
    case 'ready':
      return health === 'initializing' ? 'App is initializing' : 'Initializing workspace applications';
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
