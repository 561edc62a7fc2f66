import { defaultRangeExtractor, useWindowVirtualizer } from '@tanstack/react-virtual';
import { type JSX, useEffect, useLayoutEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { copyText } from './copy-text.ts';
import type { TimeColumn } from './list-order.ts';
import { historyEntry } from './navigation.tsx';
import { addressOf, SelectionBar } from './selection-bar.tsx';
import { useService } from './service-context.ts';
import { settings } from './settings.ts';
import { columnNames, TaskListRow } from './task-row.tsx';
import { useKeys } from './use-keys.ts';
import { useSelection } from './use-selection.ts';
import type { TaskListState } from './use-task-list.ts';

/** Heights of a row in pixels, on a wide screen and on a phone; those of what waits have room for what the agent asks. */
const rowHeight = { wide: 56, phone: 132 } as const;
const tallRowHeight = { wide: 100, phone: 170 } as const;
const numbers = new Intl.NumberFormat('en');
const phone = matchMedia('(max-width: 860px)');

/** Whether the device has a touch screen and no pointer. */
const touch = matchMedia('(hover: none)');

/** When the list is scrolled further than this, in pixels, rows must not move. */
const readingFrom = 120;

/** Renders the visible rows of a list of any length. */
export function TaskRows(props: {
  readonly list: TaskListState;
  readonly tasks: readonly Task[];
  readonly time: TimeColumn;
  /** Whether rows have room for what an agent asks. */
  readonly isTall: boolean;
}): JSX.Element {
  const { list, tasks, time, isTall } = props;
  const isPhone = useSyncExternalStore(
    (listener) => {
      phone.addEventListener('change', listener);
      return () => phone.removeEventListener('change', listener);
    },
    () => phone.matches,
  );
  const body = useRef<HTMLDivElement>(null);
  const [offset, setOffset] = useState(0);
  useLayoutEffect(() => setOffset(body.current?.offsetTop ?? 0), [list.error, isPhone]);
  const [currentId, setCurrentId] = useState<string>();
  const current = currentId === undefined ? -1 : tasks.findIndex((task) => task.id === currentId);
  const height = (isTall ? tallRowHeight : rowHeight)[isPhone ? 'phone' : 'wide'];
  const withOwner = useMemo(() => tasks.some(({ ownerName }) => ownerName !== tasks[0]?.ownerName), [tasks]);
  const columns = useMemo(() => ({ withOwner, time }), [withOwner, time]);
  const rows = useWindowVirtualizer({
    count: tasks.length,
    estimateSize: () => height,
    getItemKey: (index) => tasks[index]?.id ?? index,
    overscan: 8,
    // The header above and the legend beneath stay over the rows.
    scrollPaddingStart: isPhone ? 0 : 76,
    scrollPaddingEnd: isPhone ? 0 : 48,
    scrollMargin: offset,
    // The row with the focus must stay rendered.
    rangeExtractor: (range) =>
      [...new Set([...defaultRangeExtractor(range), ...(current < 0 ? [] : [current])])].sort((a, b) => a - b),
  });
  useLayoutEffect(() => rows.measure(), [height, rows]);
  const items = rows.getVirtualItems();

  const last = items.at(-1)?.index ?? 0;
  const { hasMore, isLoadingMore, loadMore, error } = list;
  useEffect(() => {
    if (hasMore && !isLoadingMore && error === null && last >= tasks.length - 20) loadMore();
  });

  useReturn(tasks, setCurrentId);
  const focusAt = (index: number): void => {
    const task = tasks[Math.min(Math.max(index, 0), tasks.length - 1)];
    if (task === undefined) return;
    setCurrentId(task.id);
    rows.scrollToIndex(tasks.indexOf(task), { align: 'auto' });
    requestAnimationFrame(() => focusRow(task.id));
  };
  const selection = useSelection(tasks);
  const down = (): void => focusAt(current + 1);
  const up = (): void => focusAt(current - 1);
  useKeys({
    j: down,
    k: up,
    ArrowDown: down,
    ArrowUp: up,
    g: () => focusAt(0),
    G: () => focusAt(tasks.length - 1),
    y: () => currentId !== undefined && void copyText(addressOf({ id: currentId })).catch(() => {}),
    x: () => currentId !== undefined && selection.toggle(currentId, false),
    X: () => currentId !== undefined && selection.toggle(currentId, true),
    ...(selection.ids.size > 0 && { Escape: selection.clear }),
  });

  const whole = useRef<HTMLDivElement>(null);
  const { pending, applyPending } = list;
  const waits = pending.arrived.size + pending.left.size + pending.moved.size;
  const applyPendingIfQuiet = (): void => {
    // With touch there is no hover that shows where the next tap will be.
    const isAttended = touch.matches || whole.current?.matches(':hover') === true;
    if (waits > 0 && !isAttended && scrollY < readingFrom) applyPending();
  };
  useEffect(applyPendingIfQuiet);
  const fresh = useFresh(tasks);

  return (
    <div
      ref={whole}
      className={`list${isTall ? ' tall' : ''}${withOwner ? ' with-owner' : ''}${settings.coderUrl === undefined ? '' : ' with-coder'}${list.isOutdated ? ' outdated' : ''}${selection.tasks.length > 0 ? ' selecting' : ''}`}
      aria-busy={list.isOutdated}
      // The browser updates the hovered element only after the layout.
      onPointerLeave={() => requestAnimationFrame(applyPendingIfQuiet)}
    >
      <div className="arrivals" role="status">
        {pending.arrived.size > 0 && (
          <button
            type="button"
            className="button primary"
            onClick={() => {
              applyPending();
              scrollTo({ top: 0 });
            }}
          >
            {pending.arrived.size === 1 ? '1 new task' : `${pending.arrived.size} new tasks`}
          </button>
        )}
      </div>
      <div role="table" aria-label="Tasks" aria-rowcount={list.hasMore ? -1 : tasks.length + 1}>
        <div role="rowgroup" className="head">
          <div role="row" aria-rowindex={1} className="row-grid">
            {columnNames(columns).map((column) => (
              <div key={column} role="columnheader">
                {column}
              </div>
            ))}
          </div>
        </div>
        <div role="rowgroup" className="rows" ref={body} style={{ height: rows.getTotalSize() }}>
          {items.map((item) => {
            const task = tasks[item.index];
            if (task === undefined) return null;
            return (
              <TaskListRow
                key={task.id}
                task={task}
                columns={columns}
                index={item.index}
                top={item.start - offset}
                height={height}
                hasLeft={pending.left.has(task.id)}
                isFresh={fresh.has(task.id)}
                isSelected={selection.ids.has(task.id)}
                onFocus={setCurrentId}
                onSelect={selection.toggle}
              />
            );
          })}
        </div>
      </div>
      <SelectionBar selection={selection} />
      <p className="end" role="status">
        {list.hasMore ? 'Loading more…' : `${numbers.format(tasks.length)} ${tasks.length === 1 ? 'task' : 'tasks'}`}
      </p>
    </div>
  );
}

/** Restores the scroll position, and the focus on the task, when the user goes back from its view. */
function useReturn(tasks: readonly Task[], setCurrentId: (id: string) => void): void {
  const hasReturned = useRef(false);
  const { seen } = useService();
  useLayoutEffect(() => {
    if (hasReturned.current) return;
    hasReturned.current = true;
    const { opened: before, scroll } = historyEntry();
    const opened = before === undefined ? undefined : (seen.lastViewed() ?? before);
    if (scroll !== undefined) scrollTo(0, scroll);
    if (opened === undefined || !tasks.some((task) => task.id === opened)) return;
    setCurrentId(opened);
    requestAnimationFrame(() => focusRow(opened));
  }, [tasks, setCurrentId, seen]);
}

function focusRow(id: string): void {
  document.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"] a.title`)?.focus({ preventScroll: true });
}

/** The ids of the tasks that just changed, whose rows flash briefly. */
function useFresh(tasks: readonly Task[]): ReadonlySet<string> {
  const seen = useRef<readonly Task[]>(undefined);
  const [fresh, setFresh] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => {
    const before = seen.current;
    seen.current = tasks;
    // Only what has changed in its place: rows that have moved are seen to move.
    const changed = tasks.flatMap((task, index) => {
      const other = before?.[index];
      return other !== task && other?.id === task.id ? [task.id] : [];
    });
    // Loading a page again changes every row: these do not flash.
    if (changed.length > 0 && changed.length < 20) setFresh(new Set(changed));
  }, [tasks]);
  return fresh;
}
