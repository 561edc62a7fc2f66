import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { coderRouteOf, coderRoutes, streamRouteOf } from '../../src/transport/coder/coder-routes.ts';

const isCoderRoute = (method: string | undefined, path: string): boolean => coderRouteOf(method, path) !== undefined;

describe('what is passed on to Coder', () => {
  const routes = coderRoutes.map((route) => route.split(' ') as [string, string]);

  test.each(routes)('%s %s', (method, path) => {
    const filled = path.replaceAll('*', 'some-name');
    expect(coderRouteOf(method, filled)).toBe(`${method} ${path}`);
    expect(streamRouteOf(method, filled)).toBe(path.endsWith('builds/*/logs') ? `${method} ${path}` : undefined);
    for (const other of ['PUT', 'HEAD', 'OPTIONS', 'CONNECT', 'TRACE', method.toLowerCase(), undefined]) {
      expect(isCoderRoute(other, filled), other).toBe(false);
    }
    for (const near of [`${filled}/`, `${filled}/x/y/z`, `/${filled}`, filled.slice(1), `${filled}?x`, `http://host${filled}`]) {
      expect(isCoderRoute(method, near), near).toBe(false);
    }
  });

  test.each(['a7a27450-ca16-4553-a6c5-9d6f04808569', 'me', 'some.name', '%7Bx%7D', '%C3%A9', 'a+b', 'a@b~c'])(
    'a segment %j',
    (segment) => {
      expect(isCoderRoute('POST', `/api/v2/tasks/me/${segment}/send`)).toBe(true);
    },
  );

  test.each([
    '',
    '.',
    '..',
    '%2e%2e',
    '%2E.',
    '%2f',
    'a%2Fb',
    'a%5cb',
    '%00',
    'a%0d%0ab',
    '%252f',
    '%',
    '%zz',
    '%ff',
    'a b',
    'a;b',
    'a?b',
    'a#b',
    'a%3fb',
    'a:b',
    'é',
    'a\\b',
  ])('no segment %j', (segment) => {
    expect(isCoderRoute('POST', `/api/v2/tasks/me/${segment}/send`)).toBe(false);
  });

  test('is nothing that a URL resolves to another path', () => {
    const piece = fc.constantFrom('.', '..', '%2e', '/', '%2f', 'a', '%', '\\', 'me', 'send', '?', '#', ';', ' ', '\n', '@', ':');
    const anything = fc.oneof(
      fc.string(),
      fc.array(piece).map((pieces) => pieces.join('')),
    );
    fc.assert(
      fc.property(anything, anything, (user, task) => {
        const path = `/api/v2/tasks/${user}/${task}/send`;
        if (isCoderRoute('POST', path)) expect(new URL(path, 'http://coder').pathname).toBe(path);
      }),
    );
  });

  test('is nothing that is served here', () => {
    for (const path of ['/api/v2/tasks', '/api/v2/tasks/me/x', '/api/experimental/tasks', '/api/experimental/tasks/me/x', '/']) {
      expect(isCoderRoute('GET', path)).toBe(false);
    }
  });
});
