import { expect, test } from 'vitest';
import { repairTerm } from '../../web/query-repair.ts';

test.each([
  ['status:runing', 'status:running'],
  ['STATUS:runnign', 'status:running'],
  ['stauts:running', 'status:running'],
  ['stat:running', 'status:running'],
  ['stat:complete', 'state:complete'],
  ['templat:"a b"', 'template:"a b"'],
  ['state:idel,failed', 'state:idle,failed'],
  ['waiting:tru', 'waiting:true'],
  ['status:nonsense', undefined],
  ['nonsense:running', undefined],
  ['template:dcoker', undefined],
  ['plain', undefined],
  ['', undefined],
])('%j may mean %j', (term, meant) => {
  expect(repairTerm(term)).toBe(meant);
});
