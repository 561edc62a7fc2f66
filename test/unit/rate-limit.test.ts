import { describe, expect, test } from 'vitest';
import { createRateLimit } from '../../src/call/rate-limit.ts';

const user = Buffer.alloc(16, 1);
const other = Buffer.alloc(16, 2);

describe('a rate limit', () => {
  test.each([1, 3, 7, 512, 1000])('of %d lets so many through at once, and not one more', (perMinute) => {
    const limit = createRateLimit(perMinute, () => 5);
    for (let call = 0; call < perMinute; call++) expect(limit.take(user, 'ListTasks')).toBeUndefined();
    expect(limit.take(user, 'ListTasks')).toBeCloseTo(60_000 / perMinute, 3);
  });

  test('counts each user and method for itself', () => {
    const limit = createRateLimit(1, () => 0);
    expect(limit.take(user, 'ListTasks')).toBeUndefined();
    expect(limit.take(user, 'GetTask')).toBeUndefined();
    expect(limit.take(other, 'ListTasks')).toBeUndefined();
    expect(limit.take(user, 'ListTasks')).toBeDefined();
  });

  test('says when the next call is let through, and lets it through then', () => {
    let now = 0;
    const limit = createRateLimit(60, () => now);
    for (let call = 0; call < 60; call++) limit.take(user, 'ListTasks');
    const early = limit.take(user, 'ListTasks') ?? expect.unreachable();
    now += early - 10;
    expect(limit.take(user, 'ListTasks')).toBeCloseTo(10, 3);
    now += 10;
    expect(limit.take(user, 'ListTasks')).toBeUndefined();
    expect(limit.take(user, 'ListTasks')).toBeDefined();
  });

  test('is full again after a minute, and never more than full', () => {
    let now = 0;
    const limit = createRateLimit(10, () => now);
    for (let call = 0; call < 10; call++) limit.take(user, 'ListTasks');
    now += 600_000;
    for (let call = 0; call < 10; call++) expect(limit.take(user, 'ListTasks')).toBeUndefined();
    expect(limit.take(user, 'ListTasks')).toBeDefined();
  });
});
