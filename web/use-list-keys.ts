import { useEffect } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import type { QueryBoxHandle } from './query-box.tsx';

/**
 * Keyboard navigation of the list: `j` and `k`, or the arrows, go from task to task, and `/` to the query. `Enter` follows the
 * link.
 *
 * @param current the index of the task that has or last had the focus; -1 at first.
 * @param goTo scrolls to a row and focuses it.
 */
export function useListKeys(
  tasks: readonly Task[],
  current: number,
  goTo: (index: number) => void,
  box: { readonly current: QueryBoxHandle | null },
  isActive = true,
): void {
  useEffect(() => {
    if (!isActive) return;
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isWriting(event.target)) return;
      const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (event.key === '/') box.current?.focus();
      else if (step !== undefined && tasks.length > 0) {
        goTo(Math.min(Math.max(current + step, 0), tasks.length - 1));
      } else return;
      event.preventDefault();
    };
    document.addEventListener('keydown', onKeyDown);
    return () => document.removeEventListener('keydown', onKeyDown);
  });
}

function isWriting(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest('input, textarea, select') !== null;
}
