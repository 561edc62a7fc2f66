import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

// Libraries are used by their declared public API alone: what their types do not declare may change with any release.

const files = globSync([
  'src/**/*.ts',
  'bin/*.mjs',
  'tools/*.ts',
  'dev/**/*.ts',
  'bench/**/*.ts',
  'web/**/*.{ts,tsx}',
  'packages/*/src/**/*.ts',
]).filter((file) => !file.startsWith('src/gen/'));

const tests = globSync('test/**/*.ts').filter((file) => !file.startsWith('test/conformance/gen/'));

/** What opens a library, and the files in which it does not: with the reason, and what would end it. */
const openings: readonly { what: string; pattern: RegExp; of: readonly string[]; except: Readonly<Record<string, string>> }[] = [
  {
    what: 'a cast to a shape of our own',
    of: files, // tests give functions what their types forbid
    pattern: /as unknown as|as any\b/,
    except: {
      // It gathers rows of all tables under their names, and is of no library.
      'dev/demo/source-rows.ts': 'an object made from entries has no other type',
    },
  },
  {
    what: 'a member that is private by its name',
    of: [...files, ...tests],
    pattern: /(?:\.|[\w)\]]\[')_[a-z]\w*/,
    except: {},
  },
  {
    what: 'an event that is the library\u2019s to emit',
    of: [...files, ...tests],
    pattern: /\.emit\('(?:connection|request|stream|query)'/,
    except: {},
  },
  {
    what: 'listeners that are somebody else\u2019s',
    of: [...files, ...tests],
    pattern: /\.(?:listeners|rawListeners)\(/,
    except: {
      // Node has no way to serve HTTP/1.1 and clear-text HTTP/2 on one port (nodejs/node has no option beside `allowHTTP1`, for TLS
      // alone): its own listeners get a connection once its version is known.
      'src/transport/serve-http2.ts': 'the version of HTTP is found out before Node reads a connection',
    },
  },
];

test.each(openings)('nothing opens a library: $what', ({ pattern, of, except }) => {
  expect(of.length).toBeGreaterThan(150);
  const found = of.filter((file) => pattern.test(withoutComments(readFileSync(file, 'utf8'))));
  expect(found.toSorted()).toEqual(Object.keys(except).toSorted());
});

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*$/gm, '');
}
