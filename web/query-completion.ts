import { quoteValue, splitQuery } from './query-text.ts';

/** A key of the query language, for the completion; see docs/query.md. */
interface KeyHelp {
  readonly about: string;
  readonly values?: readonly string[];
  readonly example?: string;
}

/** A value of a key, and how people know it. */
export interface KnownValue {
  readonly value: string;
  readonly about?: string;
}

const booleans = ['true', 'false'];

/** Every key, the most used ones first. */
export const keyHelp: Readonly<Record<string, KeyHelp>> = {
  status: {
    about: 'of the workspace',
    values: ['running', 'pending', 'starting', 'stopping', 'stopped', 'failed', 'canceling', 'canceled', 'deleting', 'deleted'],
  },
  state: { about: 'what the agent reported last', values: ['working', 'idle', 'complete', 'failed'] },
  waiting: { about: 'for input', values: booleans },
  phase: { about: 'how far the task has come', values: ['pending', 'initializing', 'active', 'paused', 'unknown', 'error'] },
  owner: { about: 'a username, me, or * for everyone', values: ['me', '*'] },
  template: { about: 'its name', example: 'docker' },
  name: { about: 'a part of the name', example: 'login' },
  prompt: { about: 'a part of the prompt, from 3 characters on', example: '"race condition"' },
  organization: { about: 'its name' },
  created_after: { about: 'a day, or a time in RFC 3339', example: '2026-11-23' },
  created_before: { about: 'a day, or a time in RFC 3339' },
  last_used_after: { about: 'a day, or a time in RFC 3339' },
  last_used_before: { about: 'a day, or a time in RFC 3339' },
  shared: { about: 'with anybody', values: booleans },
  shared_with_user: { about: 'a username, or me', values: ['me'] },
  shared_with_group: { about: 'organization/group, or a group of the default organization', example: 'acme/dev' },
  'has-agent': { about: 'how its agent is now: not live', values: ['connected', 'connecting', 'disconnected', 'timeout'] },
  healthy: { about: 'whether its agent is now: not live', values: booleans },
  dormant: { about: 'only dormant ones', values: ['true'] },
  outdated: { about: 'not of the newest version', values: booleans },
  param: { about: 'name, or name=value, of the latest build', example: 'region=eu' },
  id: { about: 'of a task' },
  has_external_agent: { about: 'its agent runs elsewhere', values: booleans },
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
export function completeQuery(
  query: string,
  caret: number,
  known: Readonly<Record<string, readonly KnownValue[]>> = {},
): Completion {
  const term = splitQuery(query).find(({ start, end }) => start < caret && caret <= end);
  const start = term?.start ?? caret;
  const end = term?.end ?? caret;
  const written = query.slice(start, caret);
  if (!written.includes(':')) {
    const used = new Set(splitQuery(query).flatMap((other) => (other.start === start ? [] : [other.key])));
    const beginning = written.toLowerCase();
    const suggestions = Object.entries(keyHelp)
      .filter(([key]) => key.startsWith(beginning) && key !== beginning && !used.has(key))
      .map(([key, { about }]) => ({ text: `${key}:`, about, isComplete: false }));
    return { start, end, suggestions: suggestions.slice(0, maxSuggestions) };
  }
  const { key, beginning } = valueAt(written);
  const words = keyHelp[key]?.values ?? [];
  const values: readonly KnownValue[] = [
    ...words.map((value) => ({ value })),
    ...(known[key] ?? []).filter(({ value }) => !words.includes(value)),
  ];
  const suggestions = values
    .filter((each) => isNamed(each, beginning) && each.value.toLowerCase() !== beginning)
    .map(({ value, about }) => ({ text: `${key}:${quoteValue(value)}`, isComplete: true, ...(about && { about }) }));
  return { start, end, suggestions: suggestions.slice(0, maxSuggestions) };
}

/** The key, and how its value begins, that are being written at a position in a query. */
export function writtenAt(query: string, caret: number): { readonly key: string; readonly beginning: string } | undefined {
  const start = splitQuery(query).find((term) => term.start < caret && caret <= term.end)?.start ?? caret;
  const written = query.slice(start, caret);
  return written.includes(':') ? valueAt(written) : undefined;
}

function valueAt(written: string): { readonly key: string; readonly beginning: string } {
  const colon = written.indexOf(':');
  const value = written.slice(colon + 1).replace(/^"/, '');
  return { key: written.slice(0, colon).toLowerCase(), beginning: value.toLowerCase() };
}

/** Whether a value, or a word of how people know it, begins with a lower-cased text. */
export function isNamed({ value, about = '' }: KnownValue, beginning: string): boolean {
  const names = [value, about, ...about.split(' ')];
  return names.some((name) => name.toLowerCase().startsWith(beginning));
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
