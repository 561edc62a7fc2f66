import { spawnSync } from 'node:child_process';
import type { Account } from '../../dev/engine/server-process.ts';

/** An ordinary user, by number: tests that run as root start programs as this one. */
export const ordinaryUser: Account = { uid: 1234, gid: 1234 };

/**
 * Whether the tests run as root, and an ordinary user can run programs of this repository; it may be in a folder that only root
 * can enter.
 */
export const hasOrdinaryUser: boolean =
  process.getuid?.() === 0 &&
  spawnSync(process.execPath, ['-e', 'require("fs").readFileSync(process.argv[1])', import.meta.filename], {
    ...ordinaryUser,
    cwd: '/',
    stdio: 'ignore',
  }).status === 0;
