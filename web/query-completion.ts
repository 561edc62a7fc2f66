import { quoteValue, splitQuery } from './query-text.ts';

/** A key of the query language, for the completion; see docs/query.md. */
interface KeyHelp {
  readonly about: string;
  readonly values?: readonly string[];
}

const booleans = ['true', 'false'];

/** Every key, the most used ones first. */
export const keyHelp: Readonly<Record<string, KeyHelp>> = {
  status: {
    about: 'of the workspace',
    values: ['running', 'pending', 'starting', 'stopping', 'stopped', 'failed', 'canceling', 'canceled', 'deleting', 'deleted'],
  },
  state: { about: 'what the agent does', values: ['working', 'idle', 'complete', 'failed'] },
  waiting: { about: 'for input', values: booleans },
  phase: { about: 'how far the task has come', values: ['pending', 'initializing', 'active', 'paused', 'unknown', 'error'] },
  owner: { about: 'a username, me, or * for everyone', values: ['me', '*'] },
  template: { about: 'its name' },
  name: { about: 'a part of the name' },
  prompt: { about: 'a part of the prompt, from 3 characters on' },
  organization: { about: 'its name' },
  created_after: { about: 'a day, or a time in RFC 3339' },
  created_before: { about: 'a day, or a time in RFC 3339' },
  last_used_after: { about: 'a day, or a time in RFC 3339' },
  last_used_before: { about: 'a day, or a time in RFC 3339' },
  shared: { about: 'with anybody', values: booleans },
  shared_with_user: { about: 'a username, or me', values: ['me'] },
  shared_with_group: { about: 'organization/group' },
  'has-agent': { about: 'is not live', values: ['connected', 'connecting', 'disconnected', 'timeout'] },
  healthy: { about: 'is not live', values: booleans },
  dormant: { about: 'only dormant ones', values: ['true'] },
  outdated: { about: 'not of the newest version', values: booleans },
  param: { about: 'name, or name=value' },
  id: { about: 'of a task' },
  has_external_agent: { about: 'runs elsewhere', values: booleans },
  'has-ai-task': { about: 'holds for every task', values: ['true'] },
};

/** One completion of a query. */
export interface Suggestion {
  /** The text that replaces the word at the caret. */
  readonly text: string;
  readonly about?: string;
  /** Whether it completes the term. */
  readonly isComplete: boolean;
}

/** The word that suggestions replace, from `start` up to `end`, and the suggestions. */
interface Completion {
  readonly start: number;
  readonly end: number;
  readonly suggestions: readonly Suggestion[];
}

/** Most suggestions at once: more cannot be read at a glance. */
const maxSuggestions = 8;

/**
 * The completions at a position in a query: keys while a key is being written, and values after its `:`.
 *
 * @param known values of tasks by key, such as the names of owners and templates.
 */
export function completeQuery(query: string, caret: number, known: Readonly<Record<string, readonly string[]>> = {}): Completion {
  const term = splitQuery(query).find(({ start, end }) => start < caret && caret <= end);
  const start = term?.start ?? caret;
  const end = term?.end ?? caret;
  const written = query.slice(start, caret);
  const colon = written.indexOf(':');
  if (colon === -1) {
    const used = new Set(splitQuery(query).flatMap((other) => (other.start === start ? [] : [other.key])));
    const beginning = written.toLowerCase();
    const suggestions = Object.entries(keyHelp)
      .filter(([key]) => key.startsWith(beginning) && key !== beginning && !used.has(key))
      .map(([key, { about }]) => ({ text: `${key}:`, about, isComplete: false }));
    return { start, end, suggestions: suggestions.slice(0, maxSuggestions) };
  }
  const key = written.slice(0, colon).toLowerCase();
  const beginning = written
    .slice(colon + 1)
    .replace(/^"/, '')
    .toLowerCase();
  const values = [...new Set([...(keyHelp[key]?.values ?? []), ...(known[key] ?? [])])];
  const suggestions = values
    .filter((value) => value.toLowerCase().startsWith(beginning) && value.toLowerCase() !== beginning)
    .map((value) => ({ text: `${key}:${quoteValue(value)}`, isComplete: true }));
  return { start, end, suggestions: suggestions.slice(0, maxSuggestions) };
}

/** Applies a suggestion: the new query and the new position of the caret. */
export function takeSuggestion(
  query: string,
  { start, end }: Completion,
  suggestion: Suggestion,
): { query: string; caret: number } {
  const after = query.slice(end).trimStart();
  const text = suggestion.isComplete ? `${suggestion.text} ` : suggestion.text;
  return { query: query.slice(0, start) + text + after, caret: start + text.length };
}
