import { readFileSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { keyName, wholeNumber } from './commands/arguments.ts';
import { runCommand } from './commands/run-command.ts';
import type { Config } from './config.ts';
import type { Development, OnDatabase } from './development.ts';

/**
 * Runs the sub-command that the arguments of the process name, and sets its exit code.
 *
 * With `development`, commands without `DATABASE_URL` use the private database of a checkout; otherwise they refuse to start.
 */
export async function runProgram(development?: Development): Promise<void> {
  // A compile cache, and dynamic imports for each command, halve the time to start.
  enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/compile', import.meta.url)));
  await runCommand(createProgram(development));
}

/** What `sync` does. */
interface SyncFlags {
  readonly once?: true;
  readonly follow?: true;
  readonly poll?: number;
  readonly verify?: true;
  readonly status?: true;
  readonly withoutSessions?: true;
}

function createProgram(development: Development | undefined): Command {
  const config = async (): Promise<Config> => (await import('./config.ts')).readConfig(process.env);
  const onDatabase: OnDatabase = async (work) =>
    (await import('./commands/with-database.ts')).withDatabase(await config(), development, work);
  const onTables: OnDatabase = (work) =>
    onDatabase(async (database, settings, address) => {
      await (await import('./schema/migrations.ts')).requireNewestSchema(database);
      await work(database, settings, address);
    });

  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  const program = new Command('tasks-service')
    .description('Which AI coding tasks run in our workspaces, and how are they doing: a gRPC service over MySQL.')
    .version(version)
    // What stands behind a command is its own: `sync --poll 5`, and `sync grants --poll`.
    .enablePositionalOptions()
    .addHelpText(
      'afterAll',
      `\nSettings come from the environment; docs/configuration.md lists them. ${
        development === undefined
          ? 'DATABASE_URL names the database.'
          : 'Without DATABASE_URL the commands work on the private\ndatabase of `npm start`.'
      }`,
    );

  if (development !== undefined) {
    program.commandsGroup('For people, on a running service:');
    development.addTaskCommands(program);
  }
  program.helpCommand(true);

  program.commandsGroup('For operators:');
  program
    .command('serve')
    .description('serve gRPC, the web protocols and the operator port')
    .action(async () => (await import('./serve.ts')).serve(await config(), development));

  const migrations = program.command('migrate').description('create and upgrade the tables');
  migrations
    .command('up')
    .description('apply all pending migrations')
    .action(async () => onDatabase((await import('./commands/migrate.ts')).migrateToNewest));
  migrations
    .command('down')
    .description('revert the last migration; with --all, revert every migration and drop all tables')
    .option('--all', 'revert every migration')
    .action(async ({ all = false }: { all?: boolean }) => {
      const { undoMigrations } = await import('./commands/migrate.ts');
      await onDatabase((database) => undoMigrations(database, { all }));
    });
  migrations
    .command('status')
    .description('list the migrations and when each was applied')
    .action(async () => onDatabase((await import('./commands/migrate.ts')).printMigrations));
  migrations
    .command('grants')
    .description("print the GRANT statements for the database accounts of the service's parts")
    .action(async () => (await import('./commands/migrate.ts')).printGrants(await config()));

  program
    .command('project')
    .description('maintain the read model from the source tables')
    .addOption(new Option('--follow', 'project changes until stopped').conflicts(['all', 'retry', 'verify']))
    .addOption(new Option('--all', 'rebuild the read model').conflicts(['retry', 'verify']))
    .addOption(
      new Option('--retry', 'project the workspaces in workspace_changes_failed again; exit with 1 if some still fail').conflicts(
        'verify',
      ),
    )
    .option('--verify', 'compare the read model with the source tables; exit with 1 if they differ')
    .action(async (options: { follow?: true; all?: true; retry?: true; verify?: true }, command: Command) => {
      const { followChanges, rebuildReadModel, retryFailedWorkspaces, verifyReadModel } = await import('./commands/project.ts');
      if (options.follow) await onTables(followChanges);
      else if (options.all) await onTables(rebuildReadModel);
      else if (options.retry) await onTables(retryFailedWorkspaces);
      else if (options.verify) await onTables(verifyReadModel);
      else command.error('one of --follow, --all, --retry and --verify is required');
    });

  const sync = program
    .command('sync')
    .description("copy Coder's tables from the database of CODER_DATABASE_URL")
    .enablePositionalOptions()
    .hook('preSubcommand', (command, subcommand) => {
      const [option] = Object.keys(command.opts());
      if (option !== undefined)
        command.error(`error: an option in front of ${subcommand.name()} has no meaning: put it behind it`);
    })
    .addOption(new Option('--once', 'copy what differs, and exit').conflicts(['follow', 'poll', 'verify', 'status']))
    .addOption(new Option('--follow', 'copy, and follow the changes until stopped').conflicts(['poll', 'verify', 'status']))
    .addOption(
      new Option('--poll <seconds>', 'copy, and look for changes so often, with SELECT alone, until stopped')
        .argParser(wholeNumber(1, 3600))
        .conflicts(['verify', 'status']),
    )
    .addOption(new Option('--verify', 'compare Coder and the copy; exit with 1 if they differ').conflicts('status'))
    .option('--status', 'print how the copy is doing')
    .option('--without-sessions', 'leave the session tokens out, as CODER_WITHOUT_SESSIONS does')
    .action(async (options: SyncFlags, command: Command) => {
      const { copyFromCoder, followCoder, printSyncStatus, verifyCopyOfCoder } = await import('./commands/sync.ts');
      const withoutSessions = options.withoutSessions === true;
      if (options.once) await onTables((_, settings, address) => copyFromCoder(settings, address, withoutSessions));
      else if (options.follow || options.poll !== undefined) {
        const { poll } = options;
        // Beside a service on the same machine, that has the port unless it is told another one.
        const hasPort = (process.env['OPS_PORT'] ?? '') !== '';
        await onTables((database, settings, address) => {
          const config = poll === undefined ? settings : { ...settings, CODER_POLL_SECONDS: poll };
          return followCoder(database, config, address, { withoutSessions, hasPort });
        });
      } else if (options.verify) await onTables((database, settings) => verifyCopyOfCoder(database, settings, withoutSessions));
      else if (options.status) await onTables(printSyncStatus);
      else command.error('one of --once, --follow, --poll, --verify and --status is required');
    });
  sync
    .command('grants')
    .description("print what lets a role copy and follow Coder's tables, as statements for PostgreSQL")
    .option('--poll', 'for polling, which needs nothing but SELECT')
    .option('--without-sessions', 'leave the session tokens out')
    .action(async ({ poll = false, withoutSessions = false }: { poll?: boolean; withoutSessions?: boolean }) => {
      const { printSyncGrants } = await import('./commands/sync-source.ts');
      printSyncGrants(await config(), { poll, withoutSessions });
    });
  sync
    .command('drop')
    .description("remove the replication slot and the publications from Coder's PostgreSQL")
    .action(async () => (await import('./commands/sync-source.ts')).dropFromCoder(await config()));

  const keys = program.command('keys').description('create, list and revoke session tokens');
  keys
    .command('create')
    .description('create a session token for a user and print it; it cannot be shown again')
    .requiredOption('--user <username>', 'the user the token is for')
    .option('--days <number>', 'lifetime of an unused token; each use renews it', wholeNumber(1, 3650), 30)
    .option('--name <text>', 'a name that says what the token is for', keyName, 'made by keys create')
    .action(async (options: { user: string; days: number; name: string }) => {
      const { createKey } = await import('./commands/keys.ts');
      await onTables((database) => createKey(database, options));
    });
  keys
    .command('list')
    .description('list the ids of session tokens')
    .option('--user <username>', 'only tokens of this user')
    .action(async ({ user }: { user?: string }) => {
      const { listKeys } = await import('./commands/keys.ts');
      await onTables((database) => listKeys(database, user));
    });
  keys
    .command('revoke')
    .description('delete a session token; it becomes invalid within AUTH_CACHE_SECONDS')
    .argument('<id>', 'the id: the first ten characters of the token')
    .action(async (id: string) => {
      const { revokeKey } = await import('./commands/keys.ts');
      await onTables((database) => revokeKey(database, id));
    });

  program
    .command('healthcheck')
    .description('check whether a running service is ready; exit with 1 if it is not')
    .action(async () => (await import('./commands/healthcheck.ts')).checkHealth(await config()));

  development?.addCommands(program, onDatabase);
  return program;
}
