import { useCallback, useLayoutEffect, useMemo, useRef, useState } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';

/** The tasks that the user has selected in a list. */
export interface Selection {
  /** Their ids, also of tasks that have left the list. */
  readonly ids: ReadonlySet<string>;
  /** Those of them that are in the list, in its order. */
  readonly tasks: readonly Task[];
  /** Selects a task or takes it out; with `isRange` all from the last one up to it are as that one was left. */
  toggle(id: string, isRange: boolean): void;
  clear(): void;
}

/** The selection of a list. It stays while tasks come and go. */
export function useSelection(tasks: readonly Task[]): Selection {
  const [ids, setIds] = useState<ReadonlySet<string>>(new Set());
  const last = useRef<string>(undefined);
  const latest = useRef(tasks);
  useLayoutEffect(() => {
    latest.current = tasks;
  });
  const toggle = useCallback((id: string, isRange: boolean): void => {
    const from = isRange ? latest.current.findIndex((task) => task.id === last.current) : -1;
    const to = latest.current.findIndex((task) => task.id === id);
    const anchor = last.current;
    last.current = id;
    setIds((before) => {
      const next = new Set(before);
      const isOn = from === -1 || anchor === undefined ? !before.has(id) : before.has(anchor);
      const range = from === -1 ? [id] : latest.current.slice(Math.min(from, to), Math.max(from, to) + 1).map((task) => task.id);
      for (const each of range) {
        if (isOn) next.add(each);
        else next.delete(each);
      }
      return next;
    });
  }, []);
  const clear = useCallback((): void => {
    last.current = undefined;
    setIds(new Set());
  }, []);
  const selected = useMemo(() => (ids.size === 0 ? [] : tasks.filter(({ id }) => ids.has(id))), [ids, tasks]);
  return { ids, tasks: selected, toggle, clear };
}
