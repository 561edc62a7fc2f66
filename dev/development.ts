import path from 'node:path';
import type { Command } from 'commander';
import { addTaskCommands } from '../packages/cli/src/add-task-commands.ts';
import { serviceAddress } from '../packages/cli/src/find-login.ts';
import { wholeNumber } from '../src/commands/arguments.ts';
import { CommandError } from '../src/commands/command-error.ts';
import type { Config } from '../src/config.ts';
import type { Development } from '../src/development.ts';
import type { Logger } from '../src/platform/log.ts';
import { demoDatabase, keepDemoFile, readDemoFile } from './demo/demo-file.ts';
import type { EmbeddedEngine } from './engine/engine.ts';

/** The private database with demo data, and the command `demo`. Modules are imported when they are needed. */
export const development: Development = {
  async startDatabase(config, log) {
    const started = performance.now();
    const engine = await startEngine(config, log);
    let file: { remove(): void } | undefined;
    return {
      address: engine.address,
      ...(config.CODER_DATABASE_URL === undefined
        ? {
            loadDemo: async (database) =>
              (await import('./demo/serve-demo.ts')).serveDemo({ database, engine, config, log, started }),
          }
        : {}),
      announce(addresses) {
        const web = `${config.TLS_CERT_FILE === undefined ? 'http' : 'https'}://${addresses.web}`;
        file = keepDemoFile(engine, log, {
          grpc: addresses.grpc,
          web,
          page: `${web}${config.BASE_PATH}`,
          ops: `http://${addresses.ops}`,
          socket: engine.address.socketPath ?? '',
          user: engine.address.user,
          database: engine.address.database,
          tokens: {},
        });
      },
      async [Symbol.asyncDispose]() {
        file?.remove();
        await engine.stop();
      },
    };
  },

  async openDatabase(config) {
    const running = demoDatabase(config.DATA_DIR);
    if (running !== undefined) {
      // A command beside the service works on what is served, also where it is not told that this is a copy of a Coder.
      if (config.CODER_DATABASE_URL !== undefined && running.database !== databaseOf(config))
        throw new CommandError(
          'npm start serves the demo here: stop it, and start it with CODER_DATABASE_URL, or set another DATA_DIR',
        );
      return { address: running, async [Symbol.asyncDispose]() {} };
    }
    const { createLog } = await import('../src/platform/log.ts');
    const engine = await startEngine(config, createLog('warn'));
    return { address: engine.address, [Symbol.asyncDispose]: () => engine.stop() };
  },

  addTaskCommands(program) {
    addTaskCommands(program, () => {
      const running = readDemoFile(process.env['DATA_DIR'] ?? '.data');
      return running && { address: serviceAddress(running.page), token: running.tokens['developer'] };
    });
  },

  addCommands(program, onDatabase) {
    program
      .command('demo')
      .description('load the demo data, or generate tasks for benchmarks')
      .option('--tasks <number>', 'generate this number of tasks beside the demo data', wholeNumber(1, 10_000_000))
      .option('--seed <number>', 'the same seed generates the same tasks', wholeNumber(0, 2 ** 31 - 1), 1)
      .action(async ({ tasks, seed }: { tasks?: number; seed: number }, command: Command) => {
        if (tasks === undefined && command.getOptionValueSource('seed') === 'cli') command.error('--seed requires --tasks');
        const { fillDatabase } = await import('./demo/fill-database.ts');
        await onDatabase((database, config) => fillDatabase(database, config, tasks === undefined ? undefined : { tasks, seed }));
      });
  },
};

async function startEngine(config: Config, log: Logger): Promise<EmbeddedEngine> {
  const engine = await import('./engine/engine.ts');
  const folders = { dataDir: path.resolve(config.DATA_DIR), cacheDir: path.resolve(config.CACHE_DIR) };
  return engine.startEngine({ ...folders, log, database: databaseOf(config) });
}

/** The name of the private database. A copy of a Coder has one of its own, beside that of the demo. */
function databaseOf({ CODER_DATABASE_URL: coder }: Config): string {
  return coder === undefined ? 'tasks' : 'coder';
}
