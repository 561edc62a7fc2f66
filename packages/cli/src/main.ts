#!/usr/bin/env node
import { Command } from 'commander';
import { runCommand } from '../../../src/commands/run-command.ts';
import manifest from '../package.json' with { type: 'json' };
import { addTaskCommands } from './add-task-commands.ts';
import { exitCodesHelp } from './exit-codes.ts';
import { endWithReader } from './print-tasks.ts';

const program = new Command('tasks')
  .description(manifest.description)
  .version(manifest.version)
  .enablePositionalOptions()
  .addHelpText('after', exitCodesHelp);
addTaskCommands(program);
endWithReader(); // of the help, too
void runCommand(program);
