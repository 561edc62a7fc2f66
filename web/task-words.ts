import { AgentLifecycle, type Task, TaskPhase, TaskState, WorkspaceStatus } from '../src/gen/tasks/v1/tasks_pb.ts';

/** How a mark looks: its color and its shape together, so that neither is needed alone. */
export type Tone = 'busy' | 'asking' | 'good' | 'bad' | 'calm';

/** What a mark says and how it looks. */
export interface Mark {
  readonly word: string;
  readonly tone: Tone;
}

/** The mark of what the agent does. */
export function markOfState(state: TaskState): Mark {
  switch (state) {
    case TaskState.WORKING:
      return { word: 'Working', tone: 'busy' };
    case TaskState.IDLE:
      return { word: 'Waiting for input', tone: 'asking' };
    case TaskState.COMPLETE:
      return { word: 'Complete', tone: 'good' };
    case TaskState.FAILED:
      return { word: 'Failed', tone: 'bad' };
    default:
      return { word: wordOf(TaskState, state), tone: 'calm' };
  }
}

/** The mark of a workspace's status. */
export function markOfStatus(status: WorkspaceStatus): Mark {
  return { word: wordOf(WorkspaceStatus, status), tone: toneOfStatus(status) };
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

/** How far a task has come, in a word. */
export function wordOfPhase(phase: TaskPhase): string {
  return wordOf(TaskPhase, phase);
}

/** How far an agent's life has come, in words. */
export function wordOfLifecycle(lifecycle: AgentLifecycle): string {
  return wordOf(AgentLifecycle, lifecycle);
}

/** What people call the task: its title, or without a prompt its name. */
export function titleOf(task: Task): string {
  return task.displayName === '' ? task.name : task.displayName;
}

/** When a task changed last: its workspace's row, or what its agent reported, whichever is later. In milliseconds. */
export function changedAt({ updatedAt, currentState }: Task): number {
  return Math.max(milliseconds(updatedAt), milliseconds(currentState?.timestamp));
}

/** A time of the contract in milliseconds since 1970; 0 where there is none. */
export function milliseconds(time: { readonly seconds: bigint; readonly nanos: number } | undefined): number {
  return time === undefined ? 0 : Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

/** `START_TIMEOUT` as `Start timeout`; a number that is too new to have a name as it is. */
function wordOf(values: Readonly<Record<string, number>>, value: number): string {
  const [name] = Object.entries(values).find(([, present]) => present === value) ?? [String(value)];
  const words = name.replaceAll('_', ' ').toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
