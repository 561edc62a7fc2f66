import { type Command, Option } from 'commander';
import type { Development, DevelopmentService } from '../development.ts';
import { collect, wholeNumber } from './arguments.ts';
import type { CountOptions } from './count.ts';
import type { GetOptions } from './get.ts';
import type { ListOptions } from './list.ts';
import { outputs } from './print-tasks.ts';
import type { WatchOptions } from './watch.ts';

const help = `
The session token is read from TASKS_TOKEN or the file TASKS_TOKEN_FILE.

Exit codes:
  0  done; with --until, the condition is met
  1  wrong arguments, or another error
  3  an --until condition was not met in time, or no task is left to meet it
  4  the service refuses the query
  5  not signed in
  6  the service is away
  7  there is no such task`;

/** Adds the commands for people, which call a running service. */
export function addTaskCommands(program: Command, development: Development | undefined): void {
  const local = ({ address }: { readonly address?: string }): DevelopmentService | undefined =>
    address === undefined ? development?.findService(process.env['DATA_DIR'] ?? '.data') : undefined;
  const command = (nameAndArguments: string, description: string): Command =>
    program
      .command(nameAndArguments)
      .description(description)
      .option(
        '--address <address>',
        `host:port or URL of the gRPC port (default: TASKS_ADDRESS${development === undefined ? '' : ', then the service of npm start'})`,
      )
      .addHelpText('after', help);
  const withQuery = (to: Command): Command =>
    to.option('--query <query>', 'which tasks, in the syntax of docs/query.md; by default your own', '');
  const withOutput = (to: Command, quiet: string): Command =>
    to
      .addOption(new Option('-o, --output <form>', 'how to print it').choices(outputs).default('table'))
      .option('-q, --quiet', quiet);

  withOutput(withQuery(command('list', 'list tasks, those that wait for input first')), 'print ids alone')
    .option('--order-by <order>', 'created_at, current_state.timestamp, or name, each also with " desc"')
    .option('--limit <number>', 'at most so many', wholeNumber(1, 10_000), 50)
    .action(async (options: ListOptions) => (await import('./list.ts')).listTasks(options, process.env, local(options)));

  withOutput(command('get', 'show one task'), 'print its id alone')
    .argument('<task>', "the task's id, owner/name, or the name of one of yours")
    .option('--open', 'open the link that the agent has reported, with the program of BROWSER or the system')
    .action(async (task: string, options: GetOptions) =>
      (await import('./get.ts')).getTask(task, options, process.env, local(options)),
    );

  withOutput(
    withQuery(command('count', 'count tasks: all, those that wait, and by status, phase and state, each up to 1,000')),
    'print the number of all alone',
  ).action(async (options: CountOptions) => (await import('./count.ts')).countTasks(options, process.env, local(options)));

  withQuery(command('watch', 'show tasks as they change: as a table on a terminal, otherwise as a line for each change'))
    .option('--json', 'print a line of JSON for each change')
    .option('--until <query>', 'exit with 0 once every task meets this condition, or one of several', collect)
    .option(
      '--timeout <seconds>',
      'stop after this time, with 3 if an --until condition is not met by then',
      wholeNumber(1, 1_000_000),
    )
    .addHelpText(
      'after',
      '\nConditions may use status:, phase:, state: and waiting:.\n\n  tasks-service watch --query name:fix-login --until state:idle --until status:failed --timeout 3600',
    )
    .action(async (options: WatchOptions) => (await import('./watch.ts')).watchTasks(options, process.env, local(options)));
}
