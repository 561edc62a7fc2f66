import { expect, test } from 'vitest';
import { queryHelp } from '../../packages/cli/src/query-help.ts';
import { phaseWords, queryKeys, stateWords, statusWords } from '../../src/tasks/query-keys.ts';

test('the help of the commands names each key of queries and each status, phase and state, in 80 columns', () => {
  for (const key of queryKeys.keys()) expect(queryHelp).toMatch(new RegExp(`\\b${key}:`));
  for (const words of [statusWords, phaseWords, stateWords])
    for (const word of words.keys()) if (word !== 'failure') expect(queryHelp).toMatch(new RegExp(`\\b${word}\\b`));
  for (const line of queryHelp.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});
