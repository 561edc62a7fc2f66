import { AgentLifecycle, type Task, TaskPhase, TaskState, WorkspaceStatus } from '../src/gen/tasks/v1/tasks_pb.ts';

/** The look of a mark: color and shape together, so that it can be read without its color. */
export type Tone = 'busy' | 'asking' | 'good' | 'bad' | 'calm';

/** The text and the look of a mark, and what it means, which is shown on hover. */
export interface Mark {
  readonly word: string;
  readonly tone: Tone;
  readonly about: string;
}

/**
 * The mark of a task's state: what its agent reported last; undefined without a report.
 *
 * It says only what holds now: an agent works, or waits for input, while its task is active.
 */
export function markOfState({ currentState, phase, waitingSince }: Task): Mark | undefined {
  if (currentState === undefined) return undefined;
  const isActive = phase === TaskPhase.ACTIVE;
  const isStarting = phase === TaskPhase.PENDING || phase === TaskPhase.INITIALIZING;
  switch (currentState.state) {
    case TaskState.WORKING:
      if (isStarting) return { word: 'Starting', tone: 'busy', about: 'State: the task is being started' };
      return isActive
        ? { word: 'Working', tone: 'busy', about: 'State: the agent works' }
        : {
            word: 'Was working',
            tone: 'calm',
            about: 'State: the agent worked when it reported last, and its task is not active now',
          };
    case TaskState.IDLE:
      return waitingSince === undefined
        ? { word: 'Idle', tone: 'calm', about: 'State: the agent was idle when it reported last, and its task is not active now' }
        : { word: 'Waiting for input', tone: 'asking', about: 'State: the agent is idle until somebody answers' };
    case TaskState.COMPLETE:
      return { word: 'Complete', tone: 'good', about: 'State: the agent reported that it is done' };
    case TaskState.FAILED:
      return { word: 'Failed', tone: 'bad', about: 'State: the agent reported that it failed' };
    default:
      return { word: wordOf(TaskState, currentState.state), tone: 'calm', about: 'State: what the agent reported last' };
  }
}

/** The mark of a workspace's status; a task that has no workspace yet has none. */
export function markOfStatus(status: WorkspaceStatus): Mark {
  if (status === WorkspaceStatus.UNSPECIFIED) {
    return { word: 'None', tone: 'calm', about: 'Status of the workspace: the task has no workspace yet' };
  }
  return { word: wordOf(WorkspaceStatus, status), tone: toneOfStatus(status), about: 'Status of the workspace' };
}

function toneOfStatus(status: WorkspaceStatus): Tone {
  switch (status) {
    case WorkspaceStatus.RUNNING:
      return 'good';
    case WorkspaceStatus.FAILED:
      return 'bad';
    case WorkspaceStatus.PENDING:
    case WorkspaceStatus.STARTING:
    case WorkspaceStatus.STOPPING:
    case WorkspaceStatus.CANCELING:
    case WorkspaceStatus.DELETING:
      return 'busy';
    default:
      return 'calm';
  }
}

/** The phase of a task, as a word. */
export function wordOfPhase(phase: TaskPhase): string {
  return wordOf(TaskPhase, phase);
}

/** The lifecycle state of an agent, in words. */
export function wordOfLifecycle(lifecycle: AgentLifecycle): string {
  return wordOf(AgentLifecycle, lifecycle);
}

/** The title of a task, or without a prompt its name. */
export function titleOf(task: Task): string {
  return task.displayName === '' ? task.name : task.displayName;
}

/** When a task last changed: its workspace or its agent's report, whichever is later. */
export function changedTimeOf({ updatedAt, currentState }: Task): Task['updatedAt'] {
  const reportedAt = currentState?.timestamp;
  return milliseconds(reportedAt) > milliseconds(updatedAt) ? reportedAt : updatedAt;
}

/** The same in milliseconds; 0 without a time. */
export function changedAt(task: Task): number {
  return milliseconds(changedTimeOf(task));
}

/** A timestamp in milliseconds since 1970; 0 without one. */
export function milliseconds(time: { readonly seconds: bigint; readonly nanos: number } | undefined): number {
  return time === undefined ? 0 : Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

/** `START_TIMEOUT` as `Start timeout`; an unknown value as its number. */
function wordOf(values: Readonly<Record<string, number>>, value: number): string {
  const [name] = Object.entries(values).find(([, present]) => present === value) ?? [String(value)];
  const words = name.replaceAll('_', ' ').toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
