import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';

/** Owners, templates and organizations of the tasks that were shown so far, for the completion of the query. */
export interface SeenValues {
  note(tasks: readonly Task[]): void;
  /** What was seen, by key of the query. */
  values(): Readonly<Record<string, readonly string[]>>;
}

/** Starts with nothing seen. */
export function createSeenValues(): SeenValues {
  const owner = new Set<string>();
  const template = new Set<string>();
  const organization = new Set<string>();
  return {
    note(tasks) {
      for (const task of tasks) {
        owner.add(task.ownerName);
        template.add(task.templateName);
        organization.add(task.organizationName);
      }
    },
    values: () => ({ owner: [...owner].sort(), template: [...template].sort(), organization: [...organization].sort() }),
  };
}
