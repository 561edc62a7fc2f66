/**
 * Whether an output is a terminal that may be sent escape sequences. `TERM=dumb` says that it understands none, and `NO_COLOR`
 * (https://no-color.org) that its reader wants none.
 */
export function takesEscapes({ isTTY }: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): boolean {
  return isTTY === true && env['TERM'] !== 'dumb' && (env['NO_COLOR'] ?? '') === '';
}
