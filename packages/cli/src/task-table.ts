import { styleText } from 'node:util';
import { type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt';
import { type Task, TaskPhase, WorkspaceStatus } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords, stateWords, statusWords } from '../../../src/tasks/query-keys.ts';

const headings = ['TASK', 'OWNER', 'STATUS', 'PHASE', 'STATE', 'CHANGED', 'MESSAGE'] as const;

/** Widest column but the last, in characters. */
const maxWidth = 40;

/** The column whose word at a terminal is `waiting` for what waits: to be idle is not to wait. */
const stateColumn = headings.indexOf('STATE');

/** The columns that a narrow terminal omits, in this order, until the message has this width or the width that it needs. */
const dispensable = ['PHASE', 'OWNER', 'CHANGED'] as const;
const messageWidth = 15;

/** The values of a task's columns, without characters that control a terminal. Times are as in RFC 3339. */
export function taskCells(task: Task): string[] {
  return cellsOf(task, exactTime);
}

/** A time in RFC 3339, in UTC, in whole seconds. */
export function exactTime(time: Timestamp): string {
  return `${timestampDate(time).toISOString().slice(0, 19)}Z`;
}

function cellsOf(task: Task, timeText: (time: Timestamp) => string): string[] {
  const { currentState, updatedAt } = task;
  const changed = currentState?.timestamp ?? updatedAt;
  return [
    task.name,
    task.ownerName,
    statusOf(task),
    word(phaseWords, task.phase),
    stateOf(task),
    changed === undefined ? '-' : timeText(changed),
    currentState?.message ?? '',
  ].map(printable);
}

/** The word for the status of a task's workspace, or a dash while there is no workspace. */
export function statusOf({ status }: Task): string {
  const text = word(statusWords, status);
  return status === WorkspaceStatus.UNSPECIFIED ? '-' : text;
}

/** The word for the current state of a task, or a dash without one. */
export function stateOf({ currentState }: Task): string {
  return currentState === undefined ? '-' : word(stateWords, currentState.state);
}

/** The tasks that wait for input, the one first that has waited longest, and behind them the others, the newest first. */
export function waitingFirst(tasks: Iterable<Task>): Task[] {
  const since = ({ waitingSince }: Task) =>
    waitingSince === undefined ? Number.POSITIVE_INFINITY : millisecondsOf(waitingSince);
  const comparedByWaiting = (a: Task, b: Task) => (since(a) === since(b) ? 0 : since(a) - since(b));
  return [...tasks].toSorted(
    (a, b) => comparedByWaiting(a, b) || millisecondsOf(b.createdAt) - millisecondsOf(a.createdAt) || (a.id < b.id ? 1 : -1),
  );
}

/** What a table has room for, and how it looks. */
export interface TableOptions {
  readonly rows: number;
  readonly columns: number;
  /** Whether what waits or has failed has a color. */
  readonly colors?: boolean;
  /** The time that "2 h ago" goes back from, in milliseconds; by default now. */
  readonly now?: number;
}

/** Tasks as a table in their order, with as many rows and columns as a terminal has. */
export function taskTable(
  tasks: readonly Task[],
  { rows, columns: room, colors = false, now = Date.now() }: TableOptions,
): string {
  const shown = tasks.slice(0, Math.max(1, rows - 2));
  const cells = shown.map((task) =>
    cellsOf(task, (time) => ago(time, now))
      .map((cell, column) => (column === stateColumn && task.waitingSince !== undefined ? 'waiting' : cell))
      .map((cell, column) => cut(cell, maxWidthOf(column))),
  );
  const lines = [[...headings], ...cells];
  const columns = fitting(
    headings.map((heading, column) => ({ heading, column, width: Math.max(...lines.map((line) => lengthOf(line[column]))) })),
    room,
  );
  const text = lines.map((line, row) => {
    const plain = columns
      .map(({ column, width }) => pad(line[column] ?? '', width))
      .join('  ')
      .trimEnd();
    const fits = cut(plain, room);
    const task = shown[row - 1];
    return colors && task !== undefined ? colored(fits, task) : fits;
  });
  const more = tasks.length - shown.length;
  return [...text, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

/** Yellow waits for somebody, and red has failed. */
function colored(line: string, { waitingSince, status, phase }: Task): string {
  if (waitingSince !== undefined) return styleText('yellow', line, { validateStream: false });
  const isFailed = status === WorkspaceStatus.FAILED || phase === TaskPhase.ERROR;
  return isFailed ? styleText('red', line, { validateStream: false }) : line;
}

/** Seconds of each unit, from the largest on. */
const units = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
] as const;

/** How long ago a time was, as people say it: `2 h ago`. */
export function ago(time: Timestamp, now: number): string {
  const seconds = Math.max(0, Math.floor((now - millisecondsOf(time)) / 1000));
  const [unit, size] = units.find(([, least]) => seconds >= least) ?? ['s', 1];
  return `${Math.floor(seconds / size)} ${unit} ago`;
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

function maxWidthOf(column: number): number {
  return column === headings.length - 1 ? Number.POSITIVE_INFINITY : maxWidth;
}

function millisecondsOf(time: Timestamp | undefined): number {
  return time === undefined ? 0 : timestampDate(time).getTime();
}

/** The word for a value in queries. */
export function word<Value>(words: ReadonlyMap<string, Value>, value: Value): string {
  for (const [one, of] of words) if (of === value) return one;
  return 'unknown';
}

/**
 * A text without line breaks, control and invisible characters: users choose names and messages, which could control a terminal.
 */
export function printable(text: string): string {
  return text.replace(/[\s\p{Zl}\p{Zp}]+/gu, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '');
}

/** A text of several lines, each without control and invisible characters. Tabs are two spaces. */
export function printableLines(text: string): string[] {
  return text
    .trimEnd()
    .split(/\r\n|[\n\r\v\f\p{Zl}\p{Zp}]/u)
    .map((line) => line.replaceAll('\t', '  ').replace(/[\p{Cc}\p{Cf}]/gu, ''));
}

function lengthOf(text = ''): number {
  return [...text].length;
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - lengthOf(text)));
}

/** A text of at most some characters, the last one an ellipsis if more is cut off. */
export function cut(text: string, width: number): string {
  return lengthOf(text) <= width ? text : `${[...text].slice(0, Math.max(0, width - 1)).join('')}…`;
}
