import { create } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { createConnectQueryKey, useInfiniteQuery } from '@connectrpc/connect-query';
import { type InfiniteData, keepPreviousData, useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { type ListTasksResponse, ListTasksResponseSchema, type Task, TasksService } from '../src/gen/tasks/v1/tasks_pb.ts';
import { orderAsked } from './list-order.ts';
import { pollMs } from './live-indicator.tsx';
import { applyEvents, type LiveEvent, noPendingChanges, orderOf, type Pages, type PendingChanges, settle } from './live-list.ts';
import { isWatchable } from './query-text.ts';
import { isCode, isPassing } from './service.ts';
import { useService } from './service-context.ts';
import type { LiveState } from './task-stream.ts';
import { useWatch } from './use-watch.ts';

const { listTasks } = TasksService.method;

/** Tasks in a page, about three screens: the next page is loaded before the user has scrolled to it. */
const pageSize = 60;

/**
 * How long a list waits at most to learn whether another tab has its stream, in milliseconds. If one has, what is loaded after that
 * has missed nothing that the other tab tells; if none has, which is known at once, the stream starts where the list was read.
 */
const maxWaitMs = 250;

/** How soon loading a list is retried after an error, in milliseconds. */
const againMs = 3000;

/** Most pages of a list that is polled when there is no stream: each page is a call. */
const maxPolledPages = 8;

/** A list of tasks that stays up to date. */
export interface TaskListState {
  /** The loaded tasks, in order; undefined before the first answer. */
  readonly tasks: readonly Task[] | undefined;
  readonly pending: PendingChanges;
  readonly live: LiveState;
  readonly error: Error | null;
  /** Whether the tasks are those of the previous query, while the present one is being loaded. */
  readonly isOutdated: boolean;
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
  loadMore(): void;
  reload(): void;
  /** Applies changes that move rows. */
  applyPending(): void;
}

/** Loads a list page by page and keeps it up to date by a stream. */
export function useTaskList(query: string, chosenOrder: string): TaskListState {
  const orderBy = orderAsked(query, chosenOrder);
  const { transport } = useService();
  const answers = useQueryClient();
  const order = useMemo(() => orderOf(query, orderBy), [query, orderBy]);
  const input = useMemo(
    () => ({ query, orderBy, pageSize, pageToken: '', includeResumeToken: isWatchable(query) }),
    [query, orderBy],
  );
  const key = useMemo(
    () => createConnectQueryKey({ schema: listTasks, input, transport, cardinality: 'infinite', pageParamKey: 'pageToken' }),
    [input, transport],
  );
  const [mayLoad, setMayLoad] = useMayLoad(key);
  const [isPolling, setPolling] = useState(false);
  const [pending, latestPending, setPending] = usePendingChanges(key);

  const list = useInfiniteQuery(listTasks, input, {
    enabled: mayLoad,
    // The stream keeps it up to date, also what was loaded before.
    staleTime: isWatchable(query) ? Number.POSITIVE_INFINITY : 0,
    pageParamKey: 'pageToken',
    getNextPageParam: (page) => page.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: ({ state: { data, error } }) => {
      if (isPassing(error)) return againMs;
      if (isCode(error, Code.InvalidArgument)) return false;
      return isPolling && (data?.pages.length ?? 0) <= maxPolledPages ? pollMs : false;
    },
  });

  // A response that was requested before a change would undo it: events that arrive meanwhile are applied again after it.
  const meanwhile = useRef<LiveEvent[]>([]);
  const apply = useCallback(
    (events: readonly LiveEvent[]): void => {
      const present = answers.getQueryData(key);
      if (answers.isFetching({ queryKey: key, exact: true }) > 0) meanwhile.current.push(...events);
      if (present === undefined) return;
      const pages = pagesOf(present);
      const after = applyEvents(pages, latestPending.current, events, order, isWhole(present));
      if (after.pages !== pages) answers.setQueryData(key, withPages(present, after.pages));
      setPending(after.pending);
    },
    [answers, key, order, latestPending, setPending],
  );
  useEffect(() => {
    if (list.isFetching || meanwhile.current.length === 0) return;
    apply(meanwhile.current.splice(0));
  }, [list.isFetching, apply]);

  const reload = useCallback((): void => {
    void answers.invalidateQueries({ queryKey: key, exact: true });
    setPending(noPendingChanges);
  }, [answers, key, setPending]);
  const loaded = useLoaded(list.isPlaceholderData ? undefined : list.data?.pages[0]?.resumeToken, list.failureCount > 0);
  const begin = useCallback((): Promise<string> => {
    setMayLoad();
    return loaded();
  }, [setMayLoad, loaded]);
  const live = useWatch(query, { onEvents: apply, onGap: reload, begin });
  const { status } = live;
  useEffect(() => {
    setPolling(status === 'polling');
    if (status !== 'connecting') setMayLoad();
  }, [status, setMayLoad]);

  const applyPending = useCallback((): void => {
    const present = answers.getQueryData(key);
    if (present !== undefined)
      answers.setQueryData(key, withPages(present, settle(pagesOf(present), latestPending.current, order)));
    setPending(noPendingChanges);
  }, [answers, key, latestPending, setPending, order]);

  const tasks = useMemo(() => list.data && withoutRepeats(list.data.pages.flatMap((page) => page.tasks)), [list.data]);
  return {
    tasks,
    pending,
    live,
    error: list.error,
    isOutdated: list.isPlaceholderData,
    hasMore: list.hasNextPage,
    isLoadingMore: list.isFetchingNextPage,
    loadMore: () => void list.fetchNextPage(),
    reload,
    applyPending,
  };
}

/** A function that waits for the resume token of a list; what cannot be loaded just now has none. */
function useLoaded(resumeToken: string | undefined, hasFailed: boolean): () => Promise<string> {
  const latest = useRef<string>(undefined);
  const tell = useRef<(resumeToken: string) => void>(undefined);
  const known = resumeToken ?? (hasFailed ? '' : undefined);
  useEffect(() => {
    latest.current = known;
    if (known !== undefined) tell.current?.(known);
  }, [known]);
  return useCallback(
    () =>
      new Promise((resolve) => {
        if (latest.current === undefined) tell.current = resolve;
        else resolve(latest.current);
      }),
    [],
  );
}

/** Whether a list may be loaded: when it is known who has its stream, or that has been waited for long enough. */
function useMayLoad(list: unknown): [boolean, () => void] {
  const [ready, setReady] = useState<unknown>();
  const setMayLoad = useCallback(() => setReady(list), [list]);
  useEffect(() => {
    const timer = setTimeout(setMayLoad, maxWaitMs);
    return () => clearTimeout(timer);
  }, [setMayLoad]);
  return [ready === list, setMayLoad];
}

/** The changes that are held back, as a ref for events between two renderings and as state. A new list starts without any. */
function usePendingChanges(
  list: unknown,
): [PendingChanges, { readonly current: PendingChanges }, (next: PendingChanges) => void] {
  const [pending, setPending] = useState(noPendingChanges);
  const latest = useRef(noPendingChanges);
  const set = useCallback((next: PendingChanges): void => {
    latest.current = next;
    setPending(next);
  }, []);
  useEffect(() => set(noPendingChanges), [list, set]);
  return [pending, latest, set];
}

function pagesOf({ pages }: InfiniteData<ListTasksResponse>): Pages {
  return pages.map((page) => page.tasks);
}

function withPages(data: InfiniteData<ListTasksResponse>, pages: Pages): InfiniteData<ListTasksResponse> {
  return {
    ...data,
    pages: data.pages.map((page, index) => {
      const tasks = pages[index] ?? page.tasks;
      return tasks === page.tasks ? page : create(ListTasksResponseSchema, { ...page, tasks: [...tasks] });
    }),
  };
}

function isWhole({ pages }: InfiniteData<ListTasksResponse>): boolean {
  return pages.at(-1)?.nextPageToken === '';
}

/** Removes duplicates: a task that moved while pages were loaded may be in two of them. */
function withoutRepeats(tasks: readonly Task[]): readonly Task[] {
  const byId = new Map<string, Task>();
  for (const task of tasks) if (!byId.has(task.id)) byId.set(task.id, task);
  return byId.size === tasks.length ? tasks : [...byId.values()];
}
