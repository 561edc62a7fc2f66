import { type Command, CommanderError } from 'commander';
import { CommandError } from './command-error.ts';

/** Errors that are printed without a stack. */
const plainErrors: ReadonlySet<string> = new Set([
  'CommandError',
  'ConfigError',
  'DatabaseError',
  'EngineError',
  'MigrationError',
  'PortError',
  'SyncError',
]);

/** Runs the sub-command that the arguments of the process name, prints the error that it fails with, and sets the exit code. */
export async function runCommand(program: Command): Promise<void> {
  try {
    await program.exitOverride().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode;
    else {
      console.error(error instanceof Error && plainErrors.has(error.name) ? error.message : error);
      process.exitCode = error instanceof CommandError ? error.exitCode : 1;
    }
  }
}
