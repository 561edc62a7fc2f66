import type { Scope } from '../scope.ts';
import type { TaskRow } from './tables.ts';

/** Reads the tasks with some ids, as far as the scope may read them, in no order. */
export type ReadByIds = (scope: Scope, ids: readonly Buffer[], signal: AbortSignal | undefined) => Promise<TaskRow[]>;

/** Most tasks that one statement reads for different calls: of more, those that come first would wait for the last. */
export const mostTogether = 16;

/** A call that asks for a task. */
interface Asking {
  readonly id: Buffer;
  readonly signal: AbortSignal | undefined;
  resolve(row: TaskRow | undefined): void;
  reject(reason: unknown): void;
}

/**
 * Reads tasks by id: those that calls of one caller ask for in the same turn of the event loop by one statement. A client that has
 * many calls under way sends them together, and a statement for each costs several times what its row does
 * (docs/decisions/0018).
 *
 * The statement is sent after the last of the calls has come, so that each sees what was committed before it. It is ended when
 * all of them are aborted; one that is aborted alone does not wait for it.
 */
export function readTogether(read: ReadByIds): (scope: Scope, id: Buffer, signal?: AbortSignal) => Promise<TaskRow | undefined> {
  let asking = new Map<Scope, Asking[]>();

  const readAll = (): void => {
    const all = asking;
    asking = new Map();
    for (const [scope, group] of all) {
      for (let from = 0; from < group.length; from += mostTogether)
        readGroup(read, scope, group.slice(from, from + mostTogether));
    }
  };

  return (scope, id, signal) =>
    new Promise((resolve, reject) => {
      const one = { id, signal, resolve, reject };
      if (asking.size === 0) setImmediate(readAll);
      const group = asking.get(scope);
      if (group === undefined) asking.set(scope, [one]);
      else group.push(one);
    });
}

function readGroup(read: ReadByIds, scope: Scope, group: readonly Asking[]): void {
  const [first] = group;
  if (first === undefined) return;
  if (group.length === 1) {
    read(scope, [first.id], first.signal).then(([row]) => first.resolve(row), first.reject);
    return;
  }
  const { signal, leave } = abortedWithAll(group);
  const ids = new Map(group.map(({ id }) => [id.toString('latin1'), id]));
  read(scope, [...ids.values()], signal)
    .then(
      (rows) => {
        const found = new Map(rows.map((row) => [row.id.toString('latin1'), row]));
        for (const { id, resolve } of group) resolve(found.get(id.toString('latin1')));
      },
      (error: unknown) => {
        for (const { reject } of group) reject(error);
      },
    )
    .finally(leave);
}

/** A signal that is aborted when the signals of all are; one without a signal is never. */
function abortedWithAll(group: readonly Asking[]): { readonly signal: AbortSignal; leave(): void } {
  const controller = new AbortController();
  let present = group.length;
  const count = function (this: AbortSignal): void {
    present -= 1;
    if (present === 0) controller.abort(this.reason);
  };
  for (const { signal } of group) {
    if (signal?.aborted === true) count.call(signal);
    else signal?.addEventListener('abort', count, { once: true });
  }
  const leave = (): void => {
    for (const { signal } of group) signal?.removeEventListener('abort', count);
  };
  return { signal: controller.signal, leave };
}
