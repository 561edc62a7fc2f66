import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import { phaseWords, stateWords, statusWords } from '../tasks/query-keys.ts';

const headings = ['TASK', 'OWNER', 'STATUS', 'PHASE', 'STATE', 'CHANGED', 'MESSAGE'] as const;

/** Widest column but the last, in characters. */
const maxWidth = 40;

/** The columns that a narrow terminal omits, in this order, until the message has this width or the width that it needs. */
const dispensable = ['PHASE', 'OWNER', 'CHANGED'] as const;
const messageWidth = 15;

/** The values of a task's columns, without characters that control a terminal. */
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

/** Tasks as a table, newest first, with as many rows and columns as a terminal has. Times are without their year. */
export function taskTable(tasks: Iterable<Task>, size: { readonly rows: number; readonly columns: number }): string {
  const sorted = [...tasks].toSorted((a, b) => createdAt(b) - createdAt(a) || (a.id < b.id ? 1 : -1));
  const shown = sorted.slice(0, Math.max(1, size.rows - 2));
  const rows = shown.map(taskCells).map((cells) => cells.map((cell, column) => cut(shortened(cell, column), maxWidthOf(column))));
  const lines = [[...headings], ...rows];
  const columns = fitting(
    headings.map((heading, column) => ({ heading, column, width: Math.max(...lines.map((cells) => lengthOf(cells[column]))) })),
    size.columns,
  );
  const text = lines.map((cells) =>
    cut(
      columns
        .map(({ column, width }) => pad(cells[column] ?? '', width))
        .join('  ')
        .trimEnd(),
      size.columns,
    ),
  );
  const more = sorted.length - shown.length;
  return [...text, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

interface Column {
  readonly heading: string;
  readonly column: number;
  readonly width: number;
}

/** The columns that fit into the width of the terminal. */
function fitting(columns: readonly Column[], room: number): readonly Column[] {
  let kept = columns;
  for (const heading of dispensable) {
    const needed = kept.reduce(
      (sum, { heading: name, width }) => sum + (name === 'MESSAGE' ? Math.min(messageWidth, width) : width + 2),
      0,
    );
    if (needed <= room) break;
    kept = kept.filter((one) => one.heading !== heading);
  }
  return kept;
}

function shortened(cell: string, column: number): string {
  return headings[column] === 'CHANGED' ? cell.replace(/^\d{4}-/, '') : cell;
}

function maxWidthOf(column: number): number {
  return column === headings.length - 1 ? Number.POSITIVE_INFINITY : maxWidth;
}

function createdAt(task: Task): number {
  return task.createdAt === undefined ? 0 : timestampDate(task.createdAt).getTime();
}

/** The word for a value in queries. */
function word<Value>(words: ReadonlyMap<string, Value>, value: Value): string {
  for (const [one, of] of words) if (of === value) return one;
  return 'unknown';
}

/**
 * A text without line breaks, control and invisible characters: users choose names and messages, which could control a terminal.
 */
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
