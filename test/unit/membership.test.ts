import { describe, expect, test } from 'vitest';
import { whyNotInGalera, whyNotInGroup } from '../../src/db/membership.ts';

describe('a node of Galera', () => {
  const sound = { wsrep_ready: 'ON', wsrep_cluster_status: 'Primary', wsrep_local_state_comment: 'Synced' };

  test('that is synced with a majority is sound', () => {
    expect(whyNotInGalera(sound)).toBeUndefined();
  });

  test.each([
    ['has lost the majority', { wsrep_ready: 'OFF', wsrep_cluster_status: 'non-Primary' }],
    ['has lost it, and lets old rows be read', { wsrep_cluster_status: 'non-Primary' }],
    ['sends its data to another', { wsrep_local_state_comment: 'Donor/Desynced' }],
    ['joins', { wsrep_ready: 'OFF', wsrep_local_state_comment: 'Joining: receiving State Transfer' }],
    ['has joined, and is behind', { wsrep_local_state_comment: 'Joined' }],
  ])('that %s is not', (_what, status) => {
    const why = whyNotInGalera({ ...sound, ...status });
    expect(why).toMatch(/^the server is no sound node of its cluster: /);
    for (const value of Object.values(status)) expect(why).toContain(value);
  });
});

describe('a member of Group Replication', () => {
  test.each([
    [1, 0],
    [3, 0],
    [3, 1],
    [5, 2],
  ])('that is online is sound: of %i members %i cannot be reached', (members, unreachable) => {
    expect(whyNotInGroup({ state: 'ONLINE', members, unreachable: String(unreachable) })).toBeUndefined();
  });

  test.each([
    [2, 1],
    [3, 2],
    [4, 2],
  ])('has lost the majority when of %i members %i cannot be reached, though it is online', (members, unreachable) => {
    expect(whyNotInGroup({ state: 'ONLINE', members, unreachable })).toMatch(`${unreachable} of ${members} members`);
  });

  test.each([['OFFLINE'], ['RECOVERING'], ['ERROR'], [null]])('that is %s is not sound', (state) => {
    expect(whyNotInGroup({ state, members: 1, unreachable: 0 })).toMatch(`it is ${state ?? 'OFFLINE'}`);
  });
});
