import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import { phaseWords, stateWords, statusWords } from '../tasks/query-keys.ts';

const headings = ['TASK', 'OWNER', 'STATUS', 'PHASE', 'STATE', 'CHANGED', 'MESSAGE'] as const;

/** Widest column but the last, in characters. */
const maxWidth = 40;

/** What a task says in a line: the values of the columns. Whatever could steer a terminal is left out. */
export function taskCells(task: Task): string[] {
  const { currentState, updatedAt } = task;
  const changed = currentState?.timestamp ?? updatedAt;
  return [
    task.name,
    task.ownerName,
    word(statusWords, task.status),
    word(phaseWords, task.phase),
    currentState === undefined ? '-' : word(stateWords, currentState.state),
    changed === undefined ? '-' : timestampDate(changed).toISOString().slice(0, 19).replace('T', ' '),
    currentState?.message ?? '',
  ].map(printable);
}

/** Tasks as a table, newest first, with as many rows and columns as a terminal has. */
export function taskTable(tasks: Iterable<Task>, size: { readonly rows: number; readonly columns: number }): string {
  const sorted = [...tasks].toSorted((a, b) => createdAt(b) - createdAt(a) || (a.id < b.id ? 1 : -1));
  const shown = sorted.slice(0, Math.max(1, size.rows - 2));
  const lines = [[...headings], ...shown.map(taskCells)];
  const widths = headings.map((_, column) => Math.min(maxWidth, Math.max(...lines.map((cells) => lengthOf(cells[column])))));
  const text = lines.map((cells) =>
    cut(
      cells
        .map((cell, column) => pad(cut(cell, maxWidthOf(column)), widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
      size.columns,
    ),
  );
  const more = sorted.length - shown.length;
  return [...text, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

function maxWidthOf(column: number): number {
  return column === headings.length - 1 ? Number.POSITIVE_INFINITY : maxWidth;
}

function createdAt(task: Task): number {
  return task.createdAt === undefined ? 0 : timestampDate(task.createdAt).getTime();
}

/** The word by which a query asks for a value. */
function word<Value>(words: ReadonlyMap<string, Value>, value: Value): string {
  for (const [one, of] of words) if (of === value) return one;
  return 'unknown';
}

/** A text without control characters, invisible ones and line breaks, which could steer a terminal: names and messages are anybody's. */
export function printable(text: string): string {
  return text.replace(/[\s\p{Zl}\p{Zp}]+/gu, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '');
}

function lengthOf(text = ''): number {
  return [...text].length;
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - lengthOf(text)));
}

function cut(text: string, width: number): string {
  return lengthOf(text) <= width ? text : `${[...text].slice(0, Math.max(0, width - 1)).join('')}…`;
}
