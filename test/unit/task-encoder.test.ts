import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GetTaskResponseSchema, ListTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { TaskRow } from '../../src/tasks/store/tables.ts';
import { encodeGetTaskResponse, encodeListTasksResponse } from '../../src/tasks/task-encoder.ts';
import { type TaskPage, toListTasksResponse, toTask } from '../../src/tasks/task-mapper.ts';

const ids = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));
const callers = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];

/** Texts of all lengths around the limits of a length's bytes, of all kinds of characters, half a surrogate pair among them. */
const texts = fc.oneof(
  fc.constant(''),
  fc.string({ maxLength: 60 }),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 60 }).map((codes) => String.fromCharCode(...codes)),
  fc
    .tuple(fc.constantFrom('a', 'ä', '€', '🚀'), fc.constantFrom(24, 25, 31, 32, 42, 43, 63, 127, 128, 5461, 16_384))
    .map(([c, n]) => c.repeat(n)),
);
/** What a server that is not strict may hold, or what comes before Protobuf's first year. */
const noTimes = fc.constantFrom('0000-00-00 00:00:00.000000', '2026-00-10 00:00:00.000000', '0000-05-05 00:00:00.000000');
const someTimes = fc
  .tuple(
    fc.oneof(
      fc.date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
      fc.constant(new Date(0)),
    ),
    fc.oneof(fc.integer({ min: 0, max: 999_999 }), fc.constant(0)),
  )
  .map(([date, micros]) => `${date.toISOString().slice(0, 19).replace('T', ' ')}.${String(micros).padStart(6, '0')}`);
const times = fc.oneof({ weight: 9, arbitrary: someTimes }, { weight: 1, arbitrary: noTimes });
const orNull = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: null });
const enums = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constantFrom(127, 128, 255));

const rows: fc.Arbitrary<TaskRow> = fc.record({
  id: ids,
  workspace_id: orNull(ids),
  workspace_name: orNull(texts),
  owner_id: fc.oneof(ids, fc.constantFrom(...callers)),
  organization_id: ids,
  template_id: ids,
  template_version_id: ids,
  build_number: fc.oneof(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), fc.constantFrom(0, 1, 127, 128)),
  agent_id: orNull(ids),
  agent_lifecycle: enums,
  app_id: orNull(ids),
  name: texts,
  display_name: texts,
  prompt: texts,
  status: enums,
  phase: enums,
  state: enums,
  state_at: orNull(times),
  state_message: texts,
  state_uri: texts,
  texts_bytes: fc.constant(0),
  favorite: fc.constantFrom(0, 1),
  dormant_at: orNull(times),
  created_at: times,
  updated_at: times,
  owner_name: orNull(texts),
  owner_avatar_url: orNull(texts),
  organization_name: orNull(texts),
  template_name: orNull(texts),
  template_display_name: orNull(texts),
  template_icon: orNull(texts),
  last_used_at: orNull(fc.oneof(times, fc.constant('0001-01-01 00:00:00.000000'))),
  agent_status: orNull(fc.constantFrom('connecting', 'connected', 'disconnected', 'timeout')),
  sort_key: fc.constant(null),
});

const pages: fc.Arbitrary<TaskPage> = fc.record(
  {
    rows: fc.array(rows, { maxLength: 4 }),
    nextPageToken: fc.base64String({ minLength: 1, maxLength: 200 }),
    total: fc.record({ size: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 10_000 })), capped: fc.boolean() }),
    resumeToken: fc.base64String({ minLength: 1, maxLength: 200 }),
  },
  { requiredKeys: ['rows'] },
);

describe('the bytes are those of the message', () => {
  test('of a list', () => {
    fc.assert(
      fc.property(pages, fc.constantFrom(...callers), (page, caller) => {
        const expected = toBinary(ListTasksResponseSchema, toListTasksResponse(page, caller));
        expect(encodeListTasksResponse(page, caller).equals(expected)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('of a task', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(...callers), (row, caller) => {
        const expected = toBinary(GetTaskResponseSchema, create(GetTaskResponseSchema, { task: toTask(row, caller) }));
        expect(encodeGetTaskResponse(row, caller).equals(expected)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('also after a row that could not be written, and of a page that needs much more room', () => {
    const [row] = fc.sample(rows, { numRuns: 1, seed: 1 }) as [TaskRow];
    expect(() => encodeGetTaskResponse({ ...row, updated_at: '2026-01-01 00:00:00.' }, row.owner_id)).toThrow(TypeError);
    const large = { rows: Array.from({ length: 3 }, () => ({ ...row, prompt: '…'.repeat(350_000) })) };
    for (const page of [large, { rows: [row] }]) {
      const expected = toBinary(ListTasksResponseSchema, toListTasksResponse(page, row.owner_id));
      expect(encodeListTasksResponse(page, row.owner_id).equals(expected)).toBe(true);
    }
  });
});
