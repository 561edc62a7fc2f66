import { Code, ConnectError } from '@connectrpc/connect';
import { type JSX, useEffect, useMemo, useRef } from 'react';
import { BadRequestSchema } from '../src/gen/google/rpc/error_details_pb.ts';
import { ActivityPlot } from './activity-plot.tsx';
import { listPath } from './address.ts';
import { ErrorNotice } from './error-notice.tsx';
import { KeyboardHelp, listKeys } from './keyboard-help.tsx';
import { ListControls } from './list-controls.tsx';
import { endedToday, timeColumnOf } from './list-order.ts';
import { LoadingRows, NoTasks } from './list-states.tsx';
import { goTo } from './navigation.tsx';
import { PageHeader } from './page-header.tsx';
import { QueryBox, type QueryBoxHandle } from './query-box.tsx';
import { placeProblems } from './query-problems.ts';
import { isCode, isPassing } from './service.ts';
import { useService } from './service-context.ts';
import { tabOf, withoutTab, withTab } from './tabs.ts';
import { TaskRows } from './task-rows.tsx';
import type { LiveState } from './task-stream.ts';
import { setTitle } from './title.ts';
import { type Counts, countText, useCounts } from './use-counts.ts';
import { useKeys } from './use-keys.ts';
import { type TaskListState, useTaskList } from './use-task-list.ts';

/** The list of tasks. */
export function TaskList({ query, orderBy }: { readonly query: string; readonly orderBy: string }): JSX.Element {
  const list = useTaskList(query, orderBy);
  const counts = useCounts(withoutTab(query));
  const box = useRef<QueryBoxHandle>(null);
  const problems = useMemo(() => placeProblems(query, violationsOf(list.error)), [query, list.error]);
  const { seen } = useService();
  useEffect(() => seen.note(list.tasks ?? []), [seen, list.tasks]);
  useEffect(() => setTitle('Tasks'), []);
  useKeys({
    '/': () => box.current?.focus(),
    w: () => goTo(listPath(withTab(query, tabOf(query) === 'waiting' ? 'all' : 'waiting'), '')),
  });

  return (
    <div className="page">
      <PageHeader live={liveOf(list)} />
      <main>
        <h1 className="unseen">Tasks</h1>
        <QueryBox ref={box} query={query} orderBy={orderBy} problems={problems} />
        <ListControls query={query} orderBy={orderBy} counts={counts} total={totalOf(list, counts, query, orderBy)} />
        {problems.length === 0 && <ActivityPlot query={withoutTab(query)} mayLoad={list.tasks !== undefined} />}
        <ListBody list={list} query={query} orderBy={orderBy} hasProblems={problems.length > 0} />
      </main>
      <KeyboardHelp keys={listKeys} />
    </div>
  );
}

function ListBody(props: {
  readonly list: TaskListState;
  readonly query: string;
  readonly orderBy: string;
  readonly hasProblems: boolean;
}): JSX.Element | null {
  const { list, query, orderBy, hasProblems } = props;
  const { tasks, error } = list;
  if (hasProblems) return null; // shown at the query
  // The tasks of another query would stay for as long as the service is away, and look like those of this one.
  const isAway = list.live.status === 'reconnecting' || list.live.status === 'offline';
  if (tasks === undefined || (list.isOutdated && (error !== null || isAway))) {
    return error === null ? <LoadingRows /> : <ErrorNotice error={error} onRetry={list.reload} />;
  }
  return (
    <>
      {tasks.length === 0 && list.pending.arrived.size === 0 ? (
        <NoTasks query={query} orderBy={orderBy} />
      ) : (
        <TaskRows list={list} tasks={tasks} time={timeColumnOf(query, orderBy)} isTall={tabOf(query) === 'waiting'} />
      )}
    </>
  );
}

/** A list that cannot be loaded is not live, even if it has a stream. */
function liveOf({ error, live }: TaskListState): LiveState {
  if (error === null || live.status === 'offline' || live.status === 'reconnecting') return live;
  return { status: isPassing(error) ? 'reconnecting' : 'idle' };
}

/** How many tasks a list has: counted here if all of them are loaded, else by the service. Of what has ended, also how many of them today. */
function totalOf(
  { tasks, hasMore, isOutdated }: TaskListState,
  counts: Counts | undefined,
  query: string,
  orderBy: string,
): string | undefined {
  const tab = tabOf(query);
  if (tasks === undefined || isOutdated) return undefined;
  const count = hasMore ? tab && counts?.[tab] : { count: tasks.length, isCapped: false };
  if (count === undefined) return undefined;
  const today = endedToday(query, orderBy, tasks, hasMore);
  return `${countText(count)} ${count.count === 1 && !count.isCapped ? 'task' : 'tasks'}${today === undefined ? '' : `, ${today}`}`;
}

function violationsOf(error: Error | null): readonly { field: string; description: string }[] {
  if (!isCode(error, Code.InvalidArgument)) return [];
  const [details] = ConnectError.from(error).findDetails(BadRequestSchema);
  return details?.fieldViolations ?? [];
}
