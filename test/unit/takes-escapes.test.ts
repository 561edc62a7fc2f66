import { describe, expect, test } from 'vitest';
import { progressBar } from '../../src/commands/progress-bar.ts';
import { takesEscapes } from '../../src/commands/takes-escapes.ts';

describe('escape sequences', () => {
  test.each<[isTTY: boolean | undefined, env: NodeJS.ProcessEnv, takes: boolean]>([
    [true, { TERM: 'xterm' }, true],
    [true, {}, true],
    [true, { TERM: 'xterm', NO_COLOR: '' }, true],
    [true, { TERM: 'dumb' }, false],
    [true, { TERM: 'xterm', NO_COLOR: '1' }, false],
    [true, { TERM: 'xterm', NO_COLOR: 'false' }, false],
    [false, { TERM: 'xterm' }, false],
    [undefined, { TERM: 'xterm' }, false],
  ])('are for an output that is a terminal (%s), with %j: %s', (isTTY, env, takes) => {
    expect(takesEscapes(isTTY === undefined ? {} : { isTTY }, env)).toBe(takes);
  });

  test.each<[env: NodeJS.ProcessEnv, isDrawn: boolean]>([
    [{ TERM: 'xterm' }, true],
    [{ TERM: 'dumb' }, false],
    [{ TERM: 'xterm', NO_COLOR: '1' }, false],
  ])('and a bar that is drawn over itself is for such a terminal, too: %j', (env, isDrawn) => {
    let written = '';
    const output = {
      isTTY: true,
      write: (text: string | Uint8Array) => {
        written += String(text);
        return true;
      },
    };
    const bar = progressBar(output, env);
    bar.show(1, 2);
    bar.end();
    expect(written === '').toBe(!isDrawn);
  });
});
