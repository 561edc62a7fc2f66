import { describe, expect, test } from 'vitest';
import { type Address, listPath, parseAddress, taskPath } from '../../web/address.ts';

describe('an address of the page', () => {
  test.each<[path: string, search: string, address: Address]>([
    ['/', '', { view: 'list', query: '', orderBy: '' }],
    ['/', '?q=status:running&order=name+desc', { view: 'list', query: 'status:running', orderBy: 'name desc' }],
    ['/', '?q=%22a+b%22%26&x=1', { view: 'list', query: '"a b"&', orderBy: '' }],
    ['/tasks/a7a27450-ca16-4553-a6c5-9d6f04808569', '', { view: 'task', id: 'a7a27450-ca16-4553-a6c5-9d6f04808569' }],
    ['/tasks/a%2Fb/', '', { view: 'task', id: 'a/b' }],
    ['/tasks/%', '', { view: 'task', id: '%' }],
    ['/tasks/', '', { view: 'nowhere' }],
    ['/tasks/a/b', '', { view: 'task', owner: 'a', name: 'b' }],
    ['/tasks/a/A7A27450-ca16-4553-a6c5-9d6f04808569/', '', { view: 'task', id: 'A7A27450-ca16-4553-a6c5-9d6f04808569' }],
    ['/tasks/a/b/c', '', { view: 'nowhere' }],
    ['/other', '', { view: 'nowhere' }],
  ])('%s%s', (path, search, address) => {
    expect(parseAddress(path, search)).toEqual(address);
  });

  test.each(['', 'owner:* waiting:true', 'prompt:"a & b" c/d?e#f', 'ä+b%20 ""', 'template:x,y'])(
    'keeps the query %j and an order',
    (query) => {
      const url = new URL(listPath(query, 'created_at desc'), 'http://localhost');
      expect(parseAddress(url.pathname, url.search)).toEqual({ view: 'list', query, orderBy: 'created_at desc' });
    },
  );

  test('is short where nothing is asked, and readable', () => {
    expect(listPath('', '')).toBe('/');
    expect(listPath('owner:* status:running', '')).toBe('/?q=owner:*+status:running');
  });

  test('of a task keeps any id in its place', () => {
    const path = taskPath('../?a#b');
    expect(new URL(path, 'http://localhost').pathname).toBe(path);
    expect(parseAddress(path, '')).toEqual({ view: 'task', id: '../?a#b' });
  });
});
