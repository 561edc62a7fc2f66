import type { AgentPlan, Connection, JobStatus } from './workspace-plan.ts';

/** One build of a situation, without times and texts. */
export interface Step {
  readonly transition: 'start' | 'stop' | 'delete';
  readonly job: JobStatus;
  /** `has_ai_task` of the build, in a workspace that is a task. */
  readonly flag: boolean | null;
  readonly agent?: { readonly lifecycle: string; readonly connection: Connection; readonly app?: NonNullable<AgentPlan['app']> };
  /** Whether the agent reported while this build was the latest. */
  readonly reports?: boolean;
  /** Whether the build lacks the prompt that the others have. */
  readonly withoutPrompt?: boolean;
  readonly error?: string;
}

/** A start that succeeded, with the state of its agent. */
function started(lifecycle = 'ready', connection: Connection = 'connected', app?: NonNullable<AgentPlan['app']>): Step {
  const agent = { lifecycle, connection, ...(app === undefined ? {} : { app }) };
  return { transition: 'start', job: 'succeeded', flag: true, agent, reports: true };
}

const start = (job: JobStatus): Step => ({ transition: 'start', job, flag: null });
const stop = (job: JobStatus): Step => ({ transition: 'stop', job, flag: job === 'succeeded' ? true : null });
const remove = (job: JobStatus): Step => ({ transition: 'delete', job, flag: job === 'succeeded' ? true : null });

const up = started('ready', 'connected', 'healthy');
/** A start that was followed by a stop. */
const ran = started('off', 'disconnected', 'healthy');

/**
 * The histories of workspaces by name, each from the first build to the latest. Together they cover every status and phase of a
 * task, and every rule for showing or hiding the agent's reports.
 */
export const situations = {
  // first start
  pending: [start('pending')],
  starting: [start('running')],
  canceling: [start('canceling')],
  canceled: [start('canceled')],
  failed: [start('failed')],
  'failed: quota': [{ ...start('failed'), error: 'insufficient quota: 12 of 12 credits are used' }],
  'failed: image': [{ ...start('failed'), error: 'docker_container.workspace: unable to pull image: manifest unknown' }],

  // started: the agent, then the app, start
  'agent connecting': [started('created', 'connecting', 'initializing')],
  'agent timed out': [started('created', 'timeout', 'initializing')],
  'agent starting': [started('starting', 'connected', 'initializing')],
  'app starting': [started('ready', 'connected', 'initializing')],

  // running
  running: [up],
  'app not watched': [started('ready', 'connected', 'disabled')],
  'app unhealthy': [started('ready', 'connected', 'unhealthy')],
  'no app': [started('ready', 'connected')],
  'slow startup script': [started('start_timeout', 'connected', 'healthy')],
  'failed startup script': [started('start_error', 'connected', 'healthy')],
  'agent disconnected': [started('ready', 'disconnected', 'healthy')],
  'agent lost': [started('ready', 'lost', 'healthy')],
  'agent shutting down': [started('shutting_down', 'connected', 'healthy')],
  'agent slow to shut down': [started('shutdown_timeout', 'connected', 'healthy')],
  'agent failed to shut down': [started('shutdown_error', 'lost', 'unhealthy')],
  'agent off': [started('off', 'disconnected', 'unhealthy')],

  // stopped
  'stop pending': [ran, stop('pending')],
  stopping: [ran, stop('running')],
  stopped: [ran, stop('succeeded')],
  // before Coder's #19560 a stop had no app, so `has_ai_task` was false, and no prompt
  'stopped, not flagged': [ran, { ...stop('succeeded'), flag: false, withoutPrompt: true }],
  'stop canceled': [ran, stop('canceled')],
  'stop failed': [ran, { ...stop('failed'), error: 'terraform destroy: context deadline exceeded' }],

  // started again: earlier reports are stale
  'restart pending': [ran, stop('succeeded'), start('pending')],
  restarting: [ran, stop('succeeded'), start('running')],
  'restart failed': [ran, stop('succeeded'), { ...start('failed'), error: 'no provisioner with the tags scope=organization' }],
  restarted: [ran, stop('succeeded'), { ...up, reports: false }],
  'restarted and reporting': [{ ...ran, reports: false }, stop('succeeded'), up],
  'restarted, app starting': [ran, stop('succeeded'), { ...started('ready', 'connected', 'initializing'), reports: false }],
  'restarted at once': [ran, { ...up, reports: false }],

  // deleted
  deleting: [ran, stop('succeeded'), remove('running')],
  deleted: [ran, stop('succeeded'), remove('succeeded')],
  'deletion failed': [ran, { ...remove('failed'), error: 'persistentvolumeclaim "home" is in use' }],
} as const satisfies Record<string, readonly Step[]>;

/** The name of a situation. */
export type Situation = keyof typeof situations;
