import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newUnreleasedLines } from './changelog.ts';
import { acceptedImage, buildImage, isAccepted } from './proto-image.ts';

// `npm run proto:accept` makes the contract as it stands the accepted one. Clients read of a change in the changelog, so it wants
// an entry there that is newer than the image it replaces.

function git(...args: string[]): string {
  return execFileSync('git', args, { encoding: 'utf8' }).trim();
}

/** The changelog as it was when the image was last accepted; empty before the first time. */
function changelogAtLastAccept(): string {
  const commit = git('log', '-1', '--format=%H', '--', acceptedImage);
  return commit === '' ? '' : git('show', `${commit}:CHANGELOG.md`);
}

function accept(): number {
  const folder = mkdtempSync(join(tmpdir(), 'tasks-proto-'));
  try {
    if (isAccepted(folder)) {
      console.log('The contract is the accepted one: there is nothing to do.');
      return 0;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const lines = newUnreleasedLines(readFileSync('CHANGELOG.md', 'utf8'), changelogAtLastAccept());
  if (lines.length === 0) {
    console.error('Not accepted: name the change in an entry under "Unreleased" of CHANGELOG.md first.');
    return 1;
  }
  console.log(`What clients will read:\n${lines.join('\n')}`);
  const { status } = spawnSync('buf', ['breaking', 'proto', '--against', acceptedImage], { encoding: 'utf8', stdio: 'inherit' });
  if (status !== 0) console.log('This breaks clients, as listed above.');
  buildImage(acceptedImage);
  console.log(`Accepted: commit ${acceptedImage} together with the changelog.`);
  return 0;
}

process.exitCode = accept();
