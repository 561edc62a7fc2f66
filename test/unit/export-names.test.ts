import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

// A name that two files export means something else by the import alone, and searching for it finds both.

test('no two exports of src have one name', () => {
  const files = globSync('src/**/*.ts').filter((file) => !file.startsWith('src/gen/'));
  const exported = files.flatMap((file) =>
    Array.from(
      readFileSync(file, 'utf8').matchAll(/^export (?:async )?(?:const|class|function\*?|interface|type) (\w+)/gm),
      ([, name = '']) => ({ name, file }),
    ),
  );
  expect(exported.length).toBeGreaterThan(400);
  const twice = [...Map.groupBy(exported, ({ name }) => name)].filter(([, found]) => found.length > 1);
  expect(twice.map(([name, found]) => [name, found.map(({ file }) => file)])).toEqual([]);
});
