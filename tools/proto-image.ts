import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The accepted contract, compiled: what `buf breaking` compares with. Only `npm run proto:accept` replaces it. */
export const acceptedImage = 'proto/accepted.binpb';

/** Compiles the contract to `file`, without its comments, so that the same contract always gives the same bytes. */
export function buildImage(file: string): void {
  const { status, error } = spawnSync('buf', ['build', 'proto', '--exclude-source-info', '-o', file], { stdio: 'inherit' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error('the contract does not compile');
}

/** Whether the accepted image is that of the contract as it stands; `folder` is for a temporary file. */
export function isAccepted(folder: string): boolean {
  const file = join(folder, 'contract.binpb');
  buildImage(file);
  try {
    return readFileSync(file).equals(readFileSync(acceptedImage));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
