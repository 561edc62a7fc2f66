import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';

// Builds the packages of packages/ and packs each as `npm publish` takes it, into dist-packages/ or another folder:
//
//   npm run packages [-- FOLDER]

const root = path.resolve(import.meta.dirname, '..');
const into = path.resolve(process.argv[2] ?? path.join(root, 'dist-packages'));
mkdirSync(into, { recursive: true });
for (const name of ['client', 'cli']) {
  const folder = path.join(root, 'packages', name);
  const npm = (...args: readonly string[]) =>
    execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'], shell: process.platform === 'win32' });
  rmSync(path.join(folder, 'dist'), { recursive: true, force: true });
  npm('run', '--silent', 'build');
  copyFileSync(path.join(root, 'LICENSE'), path.join(folder, 'LICENSE'));
  if (name === 'cli') {
    const program = path.join(folder, 'dist', 'tasks.cjs');
    chmodSync(program, 0o755);
    copyFileSync(program, path.join(into, 'tasks'));
  }
  npm('pack', '--silent', '--pack-destination', into);
}
