import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LockHeldError, processStart, takeFileLock } from '../../dev/engine/file-lock.ts';

const module = join(import.meta.dirname, '../../dev/engine/file-lock.ts');
let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lock-test-'));
  path = join(folder, 'lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Another process that runs `code`, in which `takeFileLock` and `path` are known. */
function another(code: string) {
  const script = `import { takeFileLock } from ${JSON.stringify(module)}; const path = ${JSON.stringify(path)}; ${code}`;
  return spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** A process id that nobody has any more. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid ?? 0;
}

describe('a file lock', () => {
  test('is held by one at a time, and free after its release', async () => {
    const lock = await takeFileLock(path);
    await expect(takeFileLock(path)).rejects.toMatchObject({ name: 'LockHeldError', pid: process.pid, path });
    lock.release();
    (await takeFileLock(path)).release();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('is waited for as long as asked', async () => {
    const lock = await takeFileLock(path);
    const begin = performance.now();
    await expect(takeFileLock(path, 200)).rejects.toThrow(LockHeldError);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(200);
    const waiting = takeFileLock(path, 10_000);
    lock.release();
    (await waiting).release();
  });

  test('of another, living process is respected, and taken over once that is killed', async () => {
    const child = another("await takeFileLock(path); console.log('held'); setInterval(() => {}, 1000);");
    await once(child.stdout, 'data');
    await expect(takeFileLock(path)).rejects.toMatchObject({ pid: child.pid });
    child.kill('SIGKILL');
    await once(child, 'exit');
    (await takeFileLock(path)).release();
  });

  test('of a process that had the id of one that lives is taken over', async () => {
    writeFileSync(path, JSON.stringify({ pid: process.pid, startedAt: 'another boot/12345' }));
    (await takeFileLock(path)).release();
  });

  test.each(['', '{', '{}', 'null', '{"pid":"1","startedAt":"x"}'])("that says %j is nobody's", async (text) => {
    writeFileSync(path, text);
    (await takeFileLock(path)).release();
  });

  test('that was taken over is not removed by its former holder', async () => {
    const lock = await takeFileLock(path);
    const other = JSON.stringify({ pid: process.ppid, startedAt: processStart(process.ppid) });
    writeFileSync(path, other);
    lock.release();
    expect(readFileSync(path, 'utf8')).toBe(other);
  });

  test('of a dead process is taken over by one of many, round after round', async () => {
    const stale = JSON.stringify({ pid: await deadPid(), startedAt: 'x' });
    writeFileSync(path, stale);
    const inside = JSON.stringify(join(folder, 'inside'));
    const code = `
      import { mkdirSync, rmdirSync } from 'node:fs';
      for (let round = 0; round < 30; round += 1) {
        const lock = await takeFileLock(path, 60_000);
        mkdirSync(${inside}); // fails when another is inside
        await new Promise((resolve) => setTimeout(resolve, 1));
        rmdirSync(${inside});
        lock.release();
      }`;
    const children = Array.from({ length: 4 }, () => another(code));
    const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0] as unknown));
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(existsSync(path)).toBe(false);
  }, 60_000);
});

describe('the start of a process', () => {
  test('is the same each time for a living one, and another for another', () => {
    expect(processStart(process.pid)).toMatch(/./);
    expect(processStart(process.pid)).toBe(processStart(process.pid));
    expect(processStart(process.ppid)).not.toBe(processStart(process.pid));
  });

  test.each([0, -1, 2 ** 30])('is unknown for %i', (pid) => {
    expect(processStart(pid)).toBeUndefined();
  });

  test('is unknown for a dead one', async () => {
    expect(processStart(await deadPid())).toBeUndefined();
  });
});
