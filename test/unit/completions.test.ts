import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addTaskCommands } from '../../packages/cli/src/add-task-commands.ts';
import { completionScript, type Shell, shells } from '../../packages/cli/src/completion-scripts.ts';
import { completionsOf } from '../../packages/cli/src/completions.ts';
import { openTerminal } from '../support/terminal.ts';
import { until } from '../support/test-server.ts';

const root = path.resolve(import.meta.dirname, '../..');
const orders = ['created_at', 'created_at desc', 'current_state.timestamp', 'current_state.timestamp desc', 'name', 'name desc'];

/** A command line, of which the last word is being written, and what may stand there. */
const cases: readonly (readonly [words: readonly string[], completions: readonly string[]])[] = [
  [['l'], ['list', 'login', 'logout']],
  [['wat'], ['watch']],
  [
    ['list', '--o'],
    ['--output', '--order-by'],
  ],
  [
    ['list', '--output', ''],
    ['table', 'json', 'jsonl', 'name'],
  ],
  [
    ['list', '-o', 'j'],
    ['json', 'jsonl'],
  ],
  [
    ['list', '--output=j'],
    ['--output=json', '--output=jsonl'],
  ],
  [['list', '--order-by', 'c'], orders.slice(0, 4)],
  [
    ['list', '--query', 'status:running', '--order-by', 'name'],
    ['name', 'name desc'],
  ],
  [['list', '--query', '--output', '--lim'], ['--limit']],
  [['get', 'a-task', '--op'], ['--open']],
  [['count', '--order'], []],
  [['list', '--query', ''], []],
  [['get', ''], []],
  [['completion', ''], [...shells]],
  [['completion', 'z'], ['zsh']],
];

describe('completions', () => {
  const program = new Command('tasks').enablePositionalOptions();
  addTaskCommands(program);

  test.each(cases)('of %j', (words, completions) => {
    const lines = completionsOf(program, words, new Map([['--order-by', orders]]));
    expect(lines.map((line) => line.split('\t')[0])).toEqual(completions);
  });

  test('of nothing are the commands, with what they do', () => {
    const lines = completionsOf(program, ['']).map((line) => line.split('\t'));
    expect(lines.map(([name]) => name)).toEqual(expect.arrayContaining(['list', 'get', 'count', 'watch', 'login', 'logout']));
    expect(lines.every(([, description = '']) => description !== '')).toBe(true);
    expect(lines.map(([name]) => name)).not.toContain('complete');
  });
});

describe('a shell', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'completion-'));
  const env = {
    PATH: `${folder}:${process.env['PATH'] ?? ''}`,
    HOME: folder,
    TERM: 'xterm',
    PS1: 'ready> ',
    NODE_COMPILE_CACHE: path.join(folder, 'compiled'),
  };

  beforeAll(() => {
    const program = path.join(folder, 'tasks');
    writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${root}/packages/cli/src/main.ts" "$@"\n`);
    chmodSync(program, 0o755);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** What a shell prints that runs a script behind the one for completions. */
  const run = (shell: Shell, script: string, before = '') =>
    execFileSync(shell, ['-c', `${before}\n${completionScript(shell, 'tasks')}\n${script}`], { encoding: 'utf8', env });

  test.each<[line: string, words: readonly string[], replies: readonly string[]]>([
    ['tasks wat', ['wat'], ['watch']],
    ['tasks list --output j', ['list', '--output', 'j'], ['json', 'jsonl']],
    ['tasks list --output=j', ['list', '--output', '=', 'j'], ['json', 'jsonl']],
    ['tasks list --output=', ['list', '--output', '='], ['table', 'json', 'jsonl', 'name']],
    ['tasks list --query status:running --ou', ['list', '--query', 'status', ':', 'running', '--ou'], ['--output']],
    ['tasks list --order-by name\\ d', ['list', '--order-by', 'name\\ d'], ['name\\ desc']],
  ])('bash completes %s', (_line, words, replies) => {
    const quoted = words.map((word) => `'${word}'`).join(' ');
    const script = `COMP_WORDS=(tasks ${quoted}); COMP_CWORD=${words.length}; _tasks; printf '%s\\n' "\${COMPREPLY[@]}"`;
    expect(run('bash', script).trim().split('\n')).toEqual(replies);
  });

  test('bash completes what is typed at a terminal', async () => {
    const shell = openTerminal('bash --norc --noprofile -i', env);
    await until('the shell', () => shell.out.includes('ready> '));
    shell.type('eval "$(tasks completion bash)"\ntasks compl\tz\t\nexit\n');
    await shell.ended;
    expect(shell.out).toContain('tasks completion zsh');
    expect(shell.out).toContain('compdef _tasks tasks');
  });

  const has = (shell: Shell) => spawnSync(shell, ['--version']).status === 0;

  test.runIf(has('zsh'))('zsh completes', () => {
    const script = `words=(tasks list --output j); CURRENT=4; _describe() { print -l -- $values; }; _tasks`;
    expect(run('zsh', script, 'compdef() { :; }').trim().split('\n')).toEqual(['json', 'jsonl']);
  });

  test.runIf(has('fish'))('fish completes', () => {
    expect(run('fish', 'complete -C "tasks list --output j"').trim().split('\n')).toEqual(['json', 'jsonl']);
  });
});
