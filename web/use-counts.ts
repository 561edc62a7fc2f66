import { Code } from '@connectrpc/connect';
import { keepPreviousData, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { TaskPhase, TaskState } from '../src/gen/tasks/v1/tasks_pb.ts';
import { onChanges } from './changes.ts';
import { startPace } from './pace.ts';
import { isCode, type Service } from './service.ts';
import { useService } from './service-context.ts';
import { type TabName, withTab } from './tabs.ts';

/** A number of tasks, up to the limit of the service. */
export interface Count {
  readonly count: number;
  readonly isCapped: boolean;
}

/** How many tasks each tab has. */
export type Counts = Readonly<Record<TabName, Count>>;

/** How soon tasks are counted again when some have changed, in milliseconds, and how often anyway: in a hidden tab less often. */
const soonestMs = 3000;
const latestMs = 15_000;
const latestHiddenMs = 30_000;

const numbers = new Intl.NumberFormat('en');

/** A count in words, such as `1,000+`. */
export function countText({ count, isCapped }: Count): string {
  return numbers.format(count) + (isCapped ? '+' : '');
}

/** The counts of all tabs of a query; undefined before the first answer. {@link useCounting} keeps them up to date. */
export function useCounts(query: string): Counts | undefined {
  const service = useService();
  const { data } = useQuery({
    queryKey: countsKey(query),
    queryFn: ({ signal }) => readCounts(service, query, signal),
    placeholderData: keepPreviousData,
    staleTime: latestMs,
    retry: false,
  });
  return data;
}

/** Keeps the counts of a query up to date, also in a hidden tab: by a call some seconds after a change, and by one now and then. */
export function useCounting(query: string): void {
  const answers = useQueryClient();
  useEffect(() => {
    const queryKey = countsKey(query);
    const isWrong = (): boolean => isCode(answers.getQueryState(queryKey)?.error, Code.InvalidArgument);
    const pace = startPace(
      () => {
        // The list shows what is wrong with the query.
        if (!isWrong()) void answers.invalidateQueries({ queryKey, exact: true }, { cancelRefetch: false });
      },
      soonestMs,
      () => (document.visibilityState === 'visible' ? latestMs : latestHiddenMs),
    );
    const ignore = onChanges(pace.ask);
    document.addEventListener('visibilitychange', pace.ask);
    return () => {
      pace.stop();
      ignore();
      document.removeEventListener('visibilitychange', pace.ask);
    };
  }, [answers, query]);
}

function countsKey(query: string): readonly string[] {
  return ['counts', query];
}

async function readCounts({ client }: Service, query: string, signal: AbortSignal): Promise<Counts> {
  // A state is counted in all phases, and the tab has those that are active.
  const [all, working] = await Promise.all([
    client.countTasks({ query }, { signal }),
    client.countTasks({ query: withTab(query, 'working') }, { signal }),
  ]);
  const ofPhase = (asked: TaskPhase): Count => toCount(all.phases.find(({ phase }) => phase === asked));
  const ofState = (asked: TaskState): Count => toCount(all.states.find(({ state }) => state === asked));
  return {
    all: toCount(all.total),
    waiting: toCount(all.waiting),
    working: toCount(working.total),
    failed: ofState(TaskState.FAILED),
    error: ofPhase(TaskPhase.ERROR),
    complete: ofState(TaskState.COMPLETE),
    paused: ofPhase(TaskPhase.PAUSED),
  };
}

function toCount(given: { readonly count: number; readonly capped: boolean } | undefined): Count {
  return { count: given?.count ?? 0, isCapped: given?.capped ?? false };
}
