/** What the exit codes of the commands mean, beside 0. */
export const exitCodes = {
  /** Wrong arguments, or an error that has no code of its own. */
  failed: 1,
  notMet: 3,
  refused: 4,
  notSignedIn: 5,
  away: 6,
  notFound: 7,
} as const;

/** What the help says of them. */
export const exitCodesHelp = `
Exit codes:
  0  done; with --until, the condition is met
  1  wrong arguments, or another error
  3  an --until condition was not met in time, or no task is left to meet it
  4  the service refuses the query
  5  not signed in, or no service is known
  6  the service is away, also when the time of watch is over
  7  there is no such task`;
