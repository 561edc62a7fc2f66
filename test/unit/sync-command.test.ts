import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const root = path.resolve(import.meta.dirname, '../..');

/** Runs `sync` where neither database is needed. */
function sync(...args: readonly string[]): { code: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env['PATH'] ?? '', CODER_DATABASE_URL: 'postgres://reader:secret@127.0.0.1/coder' };
  const { status, stdout, stderr } = spawnSync(process.execPath, ['src/main.ts', 'sync', ...args], {
    cwd: root,
    env,
    encoding: 'utf8',
  });
  return { code: status, stdout, stderr };
}

describe('sync grants', () => {
  test('with --poll asks for SELECT alone', () => {
    const { code, stdout } = sync('grants', '--poll');
    expect(code).toBe(0);
    expect(stdout).toContain('create role "reader" login;');
    expect(stdout).not.toMatch(/replication_slot|publication/);
  });

  test('with --without-sessions leaves the session tokens out, of the rights and of the publications', () => {
    const { code, stdout } = sync('grants', '--without-sessions');
    expect(code).toBe(0);
    expect(stdout).toContain('create publication');
    expect(stdout).not.toContain('api_keys');
  });
});

describe('an option that a command of sync does not have is refused', () => {
  test.for([
    [['grants', '--follow'], "unknown option '--follow'"],
    [['drop', '--once'], "unknown option '--once'"],
    [['--poll', '5', 'grants'], 'an option in front of grants has no meaning'],
    [['--without-sessions', 'drop'], 'an option in front of drop has no meaning'],
  ] as const)('%j', ([args, message]) => {
    const { code, stdout, stderr } = sync(...args);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  });
});
