import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';

/** What has been listed: the last list, and the organizations so far, for the completion of queries. */
export interface SeenValues {
  note(tasks: readonly Task[]): void;
  /** The tasks of the last list, in its order. */
  lastList(): readonly Task[];
  /** Notes that a task has been viewed. */
  noteViewed(id: string): void;
  /** The task that was viewed last. */
  lastViewed(): string | undefined;
  /** The names of the organizations. */
  organizations(): readonly string[];
}

/** Makes an empty collection. */
export function createSeenValues(): SeenValues {
  const organizations = new Set<string>();
  let last: readonly Task[] = [];
  let viewed: string | undefined;
  return {
    lastList: () => last,
    lastViewed: () => viewed,
    noteViewed(id) {
      viewed = id;
    },
    note(tasks) {
      const before = last;
      last = tasks;
      for (const [index, task] of tasks.entries()) {
        if (task === before[index]) continue;
        organizations.add(task.organizationName);
      }
    },
    organizations: () => [...organizations].sort(),
  };
}
