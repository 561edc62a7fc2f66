import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';

/** The owners, templates and organizations of the tasks shown so far, for the completion of queries. */
export interface SeenValues {
  note(tasks: readonly Task[]): void;
  /** The values, by key of the query. */
  values(): Readonly<Record<string, readonly string[]>>;
}

/** Makes an empty collection. */
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
