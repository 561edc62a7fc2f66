import { toJson } from '@bufbuild/protobuf';
import { takesEscapes } from '../../../src/commands/takes-escapes.ts';
import { type Task, TaskSchema } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { taskCells, taskTable } from './task-table.ts';

/** The forms of an output. */
export const outputs = ['table', 'json', 'jsonl', 'name'] as const;

/** In which form a command prints what it found. */
export interface OutputOptions {
  readonly output: (typeof outputs)[number];
  /** Whether to print ids or numbers alone. */
  readonly quiet?: true;
}

/** Prints tasks in their order: as a table at a terminal, elsewhere as a line with tabs for each, or in another form. */
export function printTasks(tasks: readonly Task[], { output, quiet }: OutputOptions, env: NodeJS.ProcessEnv): void {
  endWithReader();
  if (quiet === true) printLines(tasks.map(({ id }) => id));
  else if (output === 'name') printLines(tasks.map(({ ownerName, name }) => `${ownerName}/${name}`));
  else if (output === 'jsonl') printLines(tasks.map((task) => JSON.stringify(toJson(TaskSchema, task))));
  else if (output === 'json')
    console.log(
      JSON.stringify(
        tasks.map((task) => toJson(TaskSchema, task)),
        undefined,
        2,
      ),
    );
  else if (process.stdout.isTTY) {
    const columns = process.stdout.columns || 80;
    console.log(taskTable(tasks, { rows: Number.POSITIVE_INFINITY, columns, colors: takesEscapes(process.stdout, env) }));
  } else printLines(tasks.map((task) => taskCells(task).join('\t')));
}

/** Prints names and values: in columns at a terminal, elsewhere with a tab between them. */
export function printPairs(pairs: readonly (readonly [name: string, value: string])[]): void {
  endWithReader();
  const width = Math.max(...pairs.map(([name]) => name.length)) + 2;
  printLines(pairs.map(([name, value]) => (process.stdout.isTTY ? `${name.padEnd(width)}${value}` : `${name}\t${value}`)));
}

function printLines(lines: readonly string[]): void {
  if (lines.length > 0) console.log(lines.join('\n'));
}

/** Ends the process quietly when the reader has closed the pipe, as `head` does. */
export function endWithReader(): void {
  process.stdout.once('error', () => process.exit(1));
}
