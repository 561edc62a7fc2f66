import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface LockedPackage extends Manifest {
  readonly version: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
}

const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'));
const manifest = read('package.json') as Manifest;
const { packages } = read('package-lock.json') as { packages: Readonly<Record<string, LockedPackage>> };

describe('the lockfile', () => {
  test('holds no addresses: the registry is a setting of whoever installs', () => {
    const addressed = Object.entries(packages).filter(([, { resolved, link }]) => resolved !== undefined && link !== true);
    expect(addressed).toEqual([]);
  });

  test('says what the bytes of each package are', () => {
    const unsaid = Object.entries(packages).filter(
      ([path, { integrity, link }]) =>
        path.startsWith('node_modules/') && link !== true && integrity?.startsWith('sha512-') !== true,
    );
    expect(unsaid.map(([path]) => path)).toEqual([]);
  });

  test('names the packages of every platform: npm ci refuses one made where some could not be had', () => {
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => packages[`node_modules/${name}`] === undefined && packages[`${path}/node_modules/${name}`] === undefined,
      ),
    );
    expect(missing).toEqual([]);
  });

  test.each(['', 'packages/client', 'packages/cli'])('and package.json agree on what "%s" needs', (folder) => {
    for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies'] as const)
      expect(packages[folder]?.[kind]).toEqual((read(join(folder, 'package.json')) as Manifest)[kind]);
  });

  test('links to the packages of the repository, and to nothing else', () => {
    const links = Object.entries(packages).filter(([, { link }]) => link === true);
    expect(links.map(([path, { resolved }]) => [path, resolved])).toEqual([
      ['node_modules/@tasks-service/cli', 'packages/cli'],
      ['node_modules/@tasks-service/client', 'packages/client'],
    ]);
  });

  const pinned = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies });
  test.each(pinned)('%s is of one exact version, %s, and its own package', (name, version) => {
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(packages[`node_modules/${name}`]).toMatchObject({ version });
    expect(packages[`node_modules/${name}`]).not.toHaveProperty('name');
  });
});
