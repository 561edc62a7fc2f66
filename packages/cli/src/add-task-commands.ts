import { Argument, type Command, Option } from 'commander';
import { collect, wholeNumber } from '../../../src/commands/arguments.ts';
import { completionScript, type Shell, shells } from './completion-scripts.ts';
import { completionsOf } from './completions.ts';
import type { ConnectedService } from './connect-service.ts';
import type { CountOptions } from './count.ts';
import { exitCodesHelp } from './exit-codes.ts';
import type { LocalService, ServiceOptions } from './find-login.ts';
import type { GetOptions } from './get.ts';
import type { ListOptions } from './list.ts';
import { outputs } from './print-tasks.ts';
import { queryHelp } from './query-help.ts';
import type { WatchOptions } from './watch.ts';

const orders = ['created_at', 'current_state.timestamp', 'name'].flatMap((order) => [order, `${order} desc`]);

/**
 * Adds the commands for people, which call a running service.
 *
 * @param findLocal finds a service on this machine, which is used when nobody names another one.
 */
export function addTaskCommands(program: Command, findLocal?: () => LocalService | undefined): void {
  const { env } = process;
  const command = (nameAndArguments: string, description: string): Command =>
    program
      .command(nameAndArguments)
      .description(description)
      .option(
        '--address <address>',
        `that of the service's page (default: TASKS_ADDRESS${findLocal === undefined ? '' : ', the service of npm start'}, or that of login)`,
      )
      .addHelpText(
        'after',
        `\nThe session token is that of login, or in TASKS_TOKEN or the file TASKS_TOKEN_FILE.\n${exitCodesHelp}`,
      );
  const withQuery = (to: Command): Command =>
    to.option('--query <query>', 'which tasks, as below; by default your own', '').addHelpText('after', queryHelp);
  const withOutput = (to: Command, quiet: string): Command =>
    to
      .addOption(new Option('-o, --output <form>', 'how to print it').choices(outputs).default('table'))
      .option('-q, --quiet', quiet);
  // Modules are imported when they are needed, which halves the time to start.
  const onService = async (options: ServiceOptions, work: (service: ConnectedService) => Promise<void>): Promise<void> => {
    const { findLogin } = await import('./find-login.ts');
    const login = findLogin(options, env, options.address === undefined ? findLocal?.() : undefined);
    await (await import('./connect-service.ts')).withService(login, work);
  };

  withOutput(withQuery(command('list', 'list tasks, those that wait for input first')), 'print ids alone')
    .option('--order-by <order>', 'created_at, current_state.timestamp, or name, each also with " desc"')
    .option('--limit <number>', 'at most so many', wholeNumber(1, 10_000), 50)
    .action((options: ListOptions & ServiceOptions) =>
      onService(options, async ({ client }) => (await import('./list.ts')).listTasks(options, client, env)),
    );

  withOutput(command('get', 'show one task'), 'print its id alone')
    .argument('<task>', "the task's id, owner/name, or the name of one of yours")
    .option('--open', 'open the link that the agent has reported, with the program of BROWSER or the system')
    .action((task: string, options: GetOptions & ServiceOptions) =>
      onService(options, async ({ client }) => (await import('./get.ts')).getTask(task, options, client, env)),
    );

  withOutput(
    withQuery(command('count', 'count tasks: all, those that wait, and by status, phase and state, each up to 1,000')),
    'print the number of all alone',
  ).action((options: CountOptions & ServiceOptions) =>
    onService(options, async ({ client }) => (await import('./count.ts')).countTasks(options, client)),
  );

  withQuery(command('watch', 'show tasks as they change: as a table on a terminal, otherwise as a line for each change'))
    .addOption(
      new Option('-o, --output <form>', 'a table, or a line of JSON for each change')
        .choices(['table', 'jsonl'])
        .default('table'),
    )
    .addOption(new Option('--json', 'the same as --output jsonl').implies({ output: 'jsonl' }))
    .option('--until <query>', 'exit with 0 once every task meets this condition, or one of several', collect)
    .option(
      '--timeout <seconds>',
      'stop after this time, with 3 if an --until condition is not met by then, and with 6 if the service is away then',
      wholeNumber(1, 1_000_000),
    )
    .addHelpText(
      'after',
      `\nConditions may use status:, phase:, state: and waiting:.\n\n  ${program.name()} watch --query name:fix-login --until state:idle --until status:failed --timeout 3600`,
    )
    .action((options: WatchOptions & ServiceOptions) =>
      onService(options, async (service) => (await import('./watch.ts')).watchTasks(options, service, env)),
    );

  program
    .command('login')
    .description("keep a service's address and a session token, which is asked for, or read from a pipe, and tried")
    .argument('<address>', "that of the service's page, such as https://tasks.example.com")
    .addHelpText('after', exitCodesHelp)
    .action(async (address: string) => (await import('./login.ts')).login(address, env));
  program
    .command('logout')
    .description('forget what login has kept')
    .action(async () => (await import('./login.ts')).logout(env));

  program
    .command('completion')
    .description('print what makes a shell complete commands, options and their values')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .action((shell: Shell) => console.log(completionScript(shell, program.name())));
  // What those scripts call.
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .action((words: readonly string[]) => {
      for (const line of completionsOf(program, words, new Map([['--order-by', orders]]))) console.log(line);
    });
}
