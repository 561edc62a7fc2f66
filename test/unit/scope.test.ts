import { expect, test } from 'vitest';
import { scopeOf } from '../../src/tasks/scope.ts';

const userId = Buffer.alloc(16, 1);
const first = Buffer.alloc(16, 2);
const second = Buffer.alloc(16, 3);

test.each([
  ['a member of nothing', [], [], { everything: false, organizations: [], memberOf: [] }],
  ['a member', [], [{ organizationId: first, roles: [] }], { everything: false, organizations: [], memberOf: [first] }],
  ['a site owner', ['owner'], [], { everything: true, organizations: [], memberOf: [] }],
  [
    'an admin of one of two organizations',
    ['auditor'],
    [
      { organizationId: first, roles: ['organization-admin'] },
      { organizationId: second, roles: ['organization-auditor'] },
    ],
    { everything: false, organizations: [first], memberOf: [first, second] },
  ],
])('%s', (_name, roles, memberships, expected) => {
  expect(scopeOf({ userId, username: 'u', roles, memberships })).toEqual({ userId, ...expected });
});
