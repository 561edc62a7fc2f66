import { splitQuery, valueOf, withTerm } from './query-text.ts';

/** The name of a tab of the list. */
export type TabName = 'all' | 'waiting' | 'working' | 'failed' | 'error' | 'complete' | 'paused';

/** A tab of the list: terms that it adds to a query. */
interface Tab {
  readonly name: TabName;
  readonly word: string;
  /** What its tasks are, shown on hover. */
  readonly about: string;
  readonly terms: Readonly<Partial<Record<TabKey, string>>>;
}

/** The keys of a query that the tabs set. */
const tabKeys = ['waiting', 'state', 'phase'] as const;
type TabKey = (typeof tabKeys)[number];

/** The tabs from left to right. */
export const tabs: readonly Tab[] = [
  { name: 'all', word: 'All', about: 'All tasks of the query', terms: {} },
  { name: 'waiting', word: 'Waiting', about: 'The agent is idle and its task is active', terms: { waiting: 'true' } },
  {
    name: 'working',
    word: 'Working',
    about: 'The agent works and its task is active',
    terms: { state: 'working', phase: 'active' },
  },
  { name: 'failed', word: 'Failed', about: 'The agent reported a failure', terms: { state: 'failed' } },
  { name: 'error', word: 'Error', about: 'The workspace could not start, or its app is not healthy', terms: { phase: 'error' } },
  { name: 'complete', word: 'Complete', about: 'The agent reported that it is done', terms: { state: 'complete' } },
  { name: 'paused', word: 'Paused', about: 'The workspace is stopped', terms: { phase: 'paused' } },
];

/** The tab of a query; undefined if its state or phase is that of no tab. */
export function tabOf(query: string): TabName | undefined {
  const isAskedTwice = tabKeys.some((key) => splitQuery(query).filter((term) => term.key === key).length > 1);
  if (isAskedTwice) return undefined;
  return tabs.find(({ terms }) => tabKeys.every((key) => valueOf(query, key) === terms[key]))?.name;
}

/** The query without what tabs set: what all tabs have in common. */
export function withoutTab(query: string): string {
  return tabKeys.reduce((text, key) => withTerm(text, key, undefined), query);
}

/** The query of a tab. Other terms of the query stay. */
export function withTab(query: string, name: TabName): string {
  const terms = tabs.find((tab) => tab.name === name)?.terms;
  return tabKeys.reduce((text, key) => withTerm(text, key, terms?.[key]), withoutTab(query));
}
