import { foldCase } from '../db/letter-case.ts';
import { formatUuid } from '../db/uuid.ts';
import type { WatchedRow } from '../tasks/store/tables.ts';
import type { TaskFilter } from '../tasks/store/task-filter.ts';
import { isWaiting } from '../tasks/store/task-row.ts';

/** Whether a task matches a filter. */
export type TaskMatch = (row: WatchedRow) => boolean;

/**
 * Compiles a filter to a function that matches tasks in memory, by the same rules as `whereFilter` and the branches of a list in
 * SQL. Each row of a batch is read once and matched for each watcher.
 *
 * @param filter without `agentStatuses`, which depend on the clock and are not allowed in a watch.
 */
export function taskMatch(filter: TaskFilter): TaskMatch {
  const tests: TaskMatch[] = [];
  const when = <Value>(value: Value | undefined, test: (value: Value) => TaskMatch): void => {
    if (value !== undefined) tests.push(test(value));
  };
  // The most selective tests come first.
  when(filter.ownerId, (id) => (row) => row.owner_id.equals(id));
  when(filter.ids, (ids) => {
    const wanted = new Set(ids.map((id) => id.toString('latin1')));
    return (row) => wanted.has(row.id.toString('latin1'));
  });
  when(filter.workspaceIds, (ids) => (row) => ids.some((id) => row.workspace_id?.equals(id) === true));
  when(filter.organizationId, (id) => (row) => row.organization_id.equals(id));
  when(filter.templateIds, (ids) => (row) => ids.some((id) => row.template_id.equals(id)));
  if (filter.status === undefined) tests.push((row) => row.live === 1);
  else tests.push((row) => row.status === filter.status);
  when(filter.phase, (phase) => (row) => row.phase === phase);
  when(filter.state, (state) => (row) => row.state === state);
  when(filter.waiting, (waiting) => (row) => isWaiting(row) === waiting);
  when(filter.dormant, () => (row) => row.dormant_at !== null);
  when(filter.name, (name) => {
    const part = Buffer.from(foldCase(name));
    return (row) => row.name_fold.includes(part);
  });
  when(filter.prompt, (prompt) => {
    const part = Buffer.from(foldCase(prompt));
    return (row) => row.prompt_fold.includes(part);
  });
  // DATETIME(6) values sort as text.
  when(filter.createdAfter, (at) => (row) => row.created_at >= at);
  when(filter.createdBefore, (at) => (row) => row.created_at <= at);
  when(filter.lastUsedAfter, (at) => (row) => row.last_used_at !== null && row.last_used_at >= at);
  when(filter.lastUsedBefore, (at) => (row) => row.last_used_at !== null && row.last_used_at <= at);
  when(filter.shared, (shared) => (row) => row.userAclIds.length + row.groupAclIds.length > 0 === shared);
  when(filter.sharedWithUserId, (id) => {
    const wanted = formatUuid(id);
    return (row) => row.userAclIds.includes(wanted);
  });
  when(filter.sharedWithGroupId, (id) => {
    const wanted = formatUuid(id);
    return (row) => row.groupAclIds.includes(wanted);
  });
  when(filter.outdated, (outdated) => (row) => row.outdated === Number(outdated));
  when(filter.externalAgent, (external) => (row) => row.has_external_agent === Number(external));
  when(filter.parameterNames, (names) => (row) => row.parameters.some(([name]) => names.includes(foldCase(name))));
  when(
    filter.parameterValues,
    (pairs) => (row) =>
      row.parameters.some(([name, value]) => pairs.some((pair) => pair[0] === foldCase(name) && pair[1] === foldCase(value))),
  );
  return (row) => tests.every((test) => test(row));
}
