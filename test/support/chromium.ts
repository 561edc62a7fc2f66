import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { cacheDir } from './engines.ts';

const run = promisify(execFile);

/** A Chromium that runs here. */
export interface Chromium {
  readonly version: string;
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
}

/** How its program is called, by distribution. */
const names = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'];

/**
 * Finds Chromium: installed on the machine, or fetched into the cache folder from the packages of its distribution.
 *
 * @throws {Error} with the reason why there is no browser.
 */
export async function findChromium(): Promise<Chromium> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of names) {
      const path = join(folder, name);
      const installed = existsSync(path) ? await describe(path, {}).catch(() => undefined) : undefined;
      if (installed !== undefined) return installed;
    }
  }
  const root = join(cacheDir, `chromium-${process.arch}`);
  if (!existsSync(root)) {
    console.log('fetching Chromium from the packages of the distribution');
    await fetchPackages({ packages: ['chromium-headless-shell', 'fonts-dejavu-core'], into: root });
  }
  const { command, env } = fetchedProgram(root, 'usr/lib/chromium/chromium-headless-shell');
  // PulseAudio has libraries in a folder of its own, and takes it for granted where it is.
  const libraries = (env['LD_LIBRARY_PATH'] ?? '').split(delimiter).flatMap((folder) => [folder, join(folder, 'pulseaudio')]);
  const fonts = join(root, 'fonts.conf');
  const folders = [join(root, 'usr/share/fonts'), '/usr/share/fonts'].map((folder) => `<dir>${folder}</dir>`);
  await writeFile(fonts, `<fontconfig>${folders.join('')}<cachedir>${join(root, 'font-cache')}</cachedir></fontconfig>\n`);
  return describe(command.at(-1) ?? '', { LD_LIBRARY_PATH: libraries.join(delimiter), FONTCONFIG_FILE: fonts });
}

async function describe(path: string, env: Readonly<Record<string, string>>): Promise<Chromium> {
  const { stdout } = await run(path, ['--version', '--no-sandbox'], { env: { ...process.env, ...env }, timeout: 20_000 });
  const version = /(\d+\.[\d.]+)/.exec(stdout)?.[1] ?? 'of an unknown version';
  return { version, path, env };
}
