import { execFileSync } from 'node:child_process';
import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { TaskPhase, TaskSchema, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { grpcurlCommand, quoteForShell } from '../../web/grpcurl-command.ts';
import { colorOf, initialsOf, pictureAddress } from '../../web/picture-address.ts';
import { durationSince, relativeTime } from '../../web/relative-time.ts';
import { changedAt, markOfState, markOfStatus, titleOf, wordOfPhase } from '../../web/task-words.ts';
import { webLink } from '../../web/web-link.ts';

describe('a task in words', () => {
  const inState = (state: TaskState, phase: TaskPhase, waitingSince?: { seconds: bigint }) =>
    markOfState(create(TaskSchema, { phase, currentState: { state }, ...(waitingSince && { waitingSince }) }));

  test('has a word for every value', () => {
    for (const status of Object.values(WorkspaceStatus)) expect(markOfStatus(status).word).toMatch(/^[A-Z][a-z]+$/);
    for (const state of Object.values(TaskState)) expect(inState(state, TaskPhase.ACTIVE)?.word).toMatch(/^[A-Z][a-z ]+$/);
    for (const phase of Object.values(TaskPhase)) expect(wordOfPhase(phase)).toMatch(/^[A-Z][a-z]+$/);
  });

  test('waits for input only where the service says so, and works only while it is active', () => {
    const since = { seconds: 100n };
    expect(inState(TaskState.IDLE, TaskPhase.ACTIVE, since)).toMatchObject({ word: 'Waiting for input', tone: 'asking' });
    expect(inState(TaskState.IDLE, TaskPhase.PAUSED)).toMatchObject({ word: 'Idle', tone: 'calm' });
    expect(inState(TaskState.WORKING, TaskPhase.ACTIVE)).toMatchObject({ word: 'Working', tone: 'busy' });
    expect(inState(TaskState.WORKING, TaskPhase.INITIALIZING)).toMatchObject({ word: 'Starting', tone: 'busy' });
    expect(inState(TaskState.WORKING, TaskPhase.PAUSED)).toMatchObject({ word: 'Was working', tone: 'calm' });
    expect(markOfState(create(TaskSchema, { phase: TaskPhase.ACTIVE }))).toBeUndefined();
  });

  test('has no status without a workspace', () => {
    expect(markOfStatus(WorkspaceStatus.UNSPECIFIED)).toMatchObject({ word: 'None', tone: 'calm' });
  });

  test('shows values of a newer service as they are', () => {
    expect(markOfStatus(99 as WorkspaceStatus)).toMatchObject({ word: '99', tone: 'calm' });
    expect(inState(99 as TaskState, TaskPhase.ACTIVE)).toMatchObject({ word: '99', tone: 'calm' });
  });

  test('is called by its title, else by its name', () => {
    expect(titleOf(create(TaskSchema, { name: 'n', displayName: 'Title' }))).toBe('Title');
    expect(titleOf(create(TaskSchema, { name: 'n' }))).toBe('n');
  });

  test('changed when its row did, or its agent reported', () => {
    const updatedAt = { seconds: 100n, nanos: 5_999_999 };
    expect(changedAt(create(TaskSchema, { updatedAt }))).toBe(100_005);
    expect(changedAt(create(TaskSchema, { updatedAt, currentState: { timestamp: { seconds: 200n } } }))).toBe(200_000);
  });
});

const now = Date.UTC(2026, 10, 25, 12);
const minute = 60_000;
test.each([
  [0, 'just now'],
  [-59_999, 'just now'],
  [59_999, 'just now'],
  [-minute, '1 min. ago'],
  [-59 * minute, '59 min. ago'],
  [-61 * minute, '1 hr. ago'],
  [-25 * 60 * minute, 'yesterday'],
  [-3 * 1440 * minute, '3 days ago'],
  [-15 * 1440 * minute, '2 wk. ago'],
  [-90 * 1440 * minute, '3 mo. ago'],
  [-800 * 1440 * minute, '2 yr. ago'],
  [5 * minute, 'in 5 min.'],
])('%i ms from now is %j', (distance, expected) => {
  expect(relativeTime(now + distance, now)).toBe(expected);
});

test.each([
  [-5 * minute, 'a moment'],
  [59_999, 'a moment'],
  [minute, '1 min'],
  [119 * minute, '1 h'],
  [120 * minute, '2 h'],
  [50 * 60 * minute, '2 d'],
])('what has lasted %i ms has lasted %j', (duration, expected) => {
  expect(durationSince(now - duration, now)).toBe(expected);
});

describe('a picture', () => {
  const coder = 'https://coder.example.com';
  test.each<[address: string, allowed: readonly string[], expected: string | undefined]>([
    ['', [coder], undefined],
    ['https://a.example.com/x.png', [], undefined],
    ['/icon/docker.png', [], undefined],
    ['/icon/docker.png', [coder], `${coder}/icon/docker.png`],
    ['https://a.example.com/x.png', [coder, 'https://a.example.com'], 'https://a.example.com/x.png'],
    ['//a.example.com/x.png', [coder], undefined],
    ['https://coder.example.com.evil.com/x.png', [coder], undefined],
    ['https://coder.example.com@evil.com/x.png', [coder], undefined],
    ['icon.png', [coder], undefined],
    ['<img src=x>', [coder], undefined],
    ['javascript:alert(1)', [coder], undefined],
    ['data:image/svg+xml,<svg/>', [coder], undefined],
    ['\\\\evil.com/x.png', [coder], undefined],
  ])('%j with %j allowed', (address, allowed, expected) => {
    expect(pictureAddress(address, allowed)).toBe(expected);
  });

  test.each([
    ['release-bot', 'RB'],
    ['developer', 'DE'],
    ['Mei Tanaka 田中', 'MT'],
    ['田中 芽衣', '田芽'],
    ['𝒳y', '𝒳Y'],
    ['', '?'],
    ['--', '?'],
  ])('of %j is %j without one', (name, initials) => {
    expect(initialsOf(name)).toBe(initials);
    expect(colorOf(name, 6)).toBeLessThan(6);
  });
});

test.each([
  ['https://github.com/a/b/pull/1', 'https://github.com/a/b/pull/1'],
  ['http://localhost:3000', 'http://localhost:3000/'],
  ['javascript:alert(1)', undefined],
  [' javascript:alert(1)', undefined],
  ['java\nscript:alert(1)', undefined],
  ['data:text/html,x', undefined],
  ['file:///etc/passwd', undefined],
  ['/relative', undefined],
  ['', undefined],
])('the link %j is followed as %j', (text, link) => {
  expect(webLink(text)).toBe(link);
});

test.each(['plain', "it's", '$(touch x)', '`id`', 'a b', '"', '\\', "'; rm -rf /; '", 'line\nbreak'])(
  'a shell takes %j literally',
  (word) => {
    expect(execFileSync('sh', ['-c', `printf %s ${quoteForShell(word)}`]).toString()).toBe(word);
  },
);

test('the grpcurl command is that of the README, without a token', () => {
  const id = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
  expect(grpcurlCommand({ host: '127.0.0.1', port: 50051, secure: false }, id)).toBe(
    `grpcurl -plaintext -H "coder-session-token: $TOKEN" \\\n  -d '{"id":"${id}"}' \\\n  127.0.0.1:50051 tasks.v1.TasksService/GetTask`,
  );
  expect(grpcurlCommand({ host: '[::1]', port: 1, secure: true }, id)).toMatch(/^grpcurl -H .*\n.*\n {2}'\[::1\]:1' /);
});
