import { spawn } from 'node:child_process';
import { toJson } from '@bufbuild/protobuf';
import { CommandError } from '../../../src/commands/command-error.ts';
import { parseUuid } from '../../../src/db/uuid.ts';
import { type Task, TaskSchema } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords } from '../../../src/tasks/query-keys.ts';
import type { TasksClient } from '../../client/src/tasks-client.ts';
import { unary } from './connect-service.ts';
import { type OutputOptions, printPairs, printTasks } from './print-tasks.ts';
import { ago, exactTime, printable, printableLines, stateOf, statusOf, word } from './task-table.ts';

/** The options of `get`. */
export interface GetOptions extends OutputOptions {
  /** Whether to open the link that the agent has reported. */
  readonly open?: true;
}

/**
 * Prints a task, or opens its link in a browser.
 *
 * @param named the task's id, its owner and name with a slash between them, or the name of one's own task.
 * @throws {CommandError} when the task has no link.
 * @throws {ConnectError} when there is no such task, or the service refuses or is away.
 */
export async function getTask(
  named: string,
  { open, ...options }: GetOptions,
  client: TasksClient,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const { task } = await client.getTask({ identifier: identifierOf(named) }, unary);
  if (task === undefined) throw new CommandError('the service has answered without a task');
  if (open === true) await openLink(task, env);
  else if (options.output === 'json' && options.quiet !== true)
    console.log(JSON.stringify(toJson(TaskSchema, task), undefined, 2));
  else if (options.output === 'table' && options.quiet !== true) printForPeople(task);
  else printTasks([task], options, env);
}

function identifierOf(named: string) {
  if (parseUuid(named) !== undefined) return { case: 'id', value: named } as const;
  const slash = named.indexOf('/');
  const [owner, name] = slash < 0 ? ['me', named] : [named.slice(0, slash), named.slice(slash + 1)];
  return { case: 'name', value: { owner, name } } as const;
}

/** Prints what people want to know of a task: at a terminal with its prompt as it was written, elsewhere a line for each value. */
function printForPeople(task: Task): void {
  const pairs = pairsOf(task);
  const prompt = printableLines(task.initialPrompt);
  if (!process.stdout.isTTY || prompt.length < 2) return printPairs(pairs);
  printPairs(pairs.filter(([name]) => name !== 'prompt'));
  console.log(`\nprompt\n\n${prompt.map((line) => `  ${line}`.trimEnd()).join('\n')}`);
}

/** What people want to know of a task. Times are as long ago as they are at a terminal, and else as in RFC 3339. */
function pairsOf(task: Task): (readonly [string, string])[] {
  const { currentState, waitingSince, createdAt } = task;
  const time = (at: typeof createdAt) => (at === undefined ? '' : process.stdout.isTTY ? ago(at, Date.now()) : exactTime(at));
  const pairs = [
    ['task', task.name],
    ['id', task.id],
    ['owner', task.ownerName],
    ['organization', task.organizationName],
    ['template', task.templateName],
    ['status', statusOf(task)],
    ['phase', word(phaseWords, task.phase)],
    ['state', stateOf(task)],
    ['message', currentState?.message ?? ''],
    ['link', currentState?.uri ?? ''],
    ['reported', time(currentState?.timestamp)],
    ['waiting since', time(waitingSince)],
    ['created', time(createdAt)],
    ['prompt', task.initialPrompt],
  ] as const;
  return pairs.filter(([, value]) => value !== '').map(([name, value]) => [name, printable(value)]);
}

/** Opens the link of a task with the program that BROWSER names, or that of the system. */
async function openLink({ name, currentState }: Task, env: NodeJS.ProcessEnv): Promise<void> {
  const link = currentState?.uri ?? '';
  if (link === '') throw new CommandError(`${printable(name)} has reported no link`);
  // Agents choose it: nothing but a page may be opened.
  if (!/^https?:\/\//i.test(link) || !URL.canParse(link)) throw new CommandError(`the link is no web page: ${printable(link)}`);
  const { href } = new URL(link);
  const [program, ...args] = openers[process.platform] ?? ['xdg-open'];
  const command = env['BROWSER'] ?? program ?? 'xdg-open';
  await new Promise<void>((resolve, reject) => {
    const child = spawn(command, command === program ? [...args, href] : [href], { stdio: 'ignore', detached: true });
    child.once('error', (error) => reject(new CommandError(`${command} cannot be run: ${error.message}; the link is ${href}`)));
    child.once('spawn', () => {
      child.unref();
      resolve();
    });
  });
  console.log(href);
}

const openers: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: ['open'],
  win32: ['rundll32', 'url.dll,FileProtocolHandler'],
};
