import type { ReportText } from './demo-data.ts';
import type { Situation } from './situations.ts';

/** How often each situation occurs among generated tasks, in thousandths. */
export const situationShares: Readonly<Partial<Record<Situation, number>>> = {
  running: 520,
  stopped: 240,
  'stopped, not flagged': 30,
  'restarted and reporting': 30,
  restarted: 20,
  deleted: 40,
  failed: 25,
  'failed: quota': 10,
  'restart failed': 5,
  canceled: 20,
  'app unhealthy': 12,
  'agent disconnected': 10,
  'agent off': 6,
  'slow startup script': 4,
  starting: 8,
  'agent starting': 5,
  'app starting': 4,
  pending: 4,
  stopping: 3,
  deleting: 2,
  canceling: 2,
};

/** Verbs: as the beginning of a prompt, and in the name of the workspace. */
export const verbs: readonly (readonly [prompt: string, name: string])[] = [
  ['Fix', 'fix'],
  ['Find out why we need a workaround for', 'why'],
  ['Write the missing tests for', 'test'],
  ['Refactor', 'refactor'],
  ['Document', 'document'],
  ['Speed up', 'speed-up'],
  ['Migrate', 'migrate'],
  ['Add metrics and an alert for', 'measure'],
  ['Simplify', 'simplify'],
  ['Review and harden', 'harden'],
];

/** Objects, likewise. */
export const subjects: readonly (readonly [prompt: string, name: string])[] = [
  ['the login redirect', 'login-redirect'],
  ['the nightly invoice run', 'invoice-run'],
  ['the retry logic of the webhook sender', 'webhook-retries'],
  ['the price cache', 'price-cache'],
  ['the CSV import of suppliers', 'csv-import'],
  ['the search index rebuild', 'search-index'],
  ['the session cookie handling', 'session-cookies'],
  ['the order history page', 'order-history'],
  ['the connection pool settings', 'pool-settings'],
  ['the image resizing worker', 'image-worker'],
  ['the OpenAPI description', 'openapi'],
  ['the feature flag client', 'feature-flags'],
  ['the address validation', 'address-check'],
  ['the Dockerfile of the build image', 'build-image'],
  ['the rate limiter', 'rate-limiter'],
  ['the e-mail templates', 'email-templates'],
  ['the stock reservation', 'stock-reservation'],
  ['the audit log', 'audit-log'],
  ['the pagination of the customer list', 'customer-paging'],
  ['the currency conversion', 'currencies'],
];

/** Places, in prompts only. */
export const places: readonly string[] = [
  'in the checkout service',
  'in packages/ui',
  'in the gateway',
  'on staging',
  'of the mobile app',
  'in the reporting jobs',
  'in internal/ledger',
  'for the partner API',
];

/** Conditions; each prompt ends with one. */
export const conditions: readonly string[] = [
  'Keep the public API as it is and add a test for every case you touch.',
  'Start with a test that fails, and keep the change under 300 lines.',
  'It must work during a rolling deploy, with the old and the new version side by side.',
  'Say first what you would do and what could go wrong, then wait for my answer.',
  'Measure before and after, and put both numbers in the pull request.',
  'Do not touch generated files, and run the linter before you stop.',
  'There is an older attempt on a branch; take what is good and say what is not.',
  'No new dependencies, please, and no change of the database schema.',
];

/** The messages of agents in each state. */
export const reports: Readonly<Record<'working' | 'idle' | 'complete' | 'failure', readonly ReportText[]>> = {
  working: [
    'working Reading the code and its tests',
    'working Reproduced the problem with a small test',
    'working Running the test suite',
    'working Writing the change, 3 files so far',
    'working Fixing what the linter found',
    'working Comparing the numbers before and after',
  ],
  idle: [
    'idle Waiting for an answer: which of the two ways do you prefer?',
    'idle The change is ready for review',
    'idle Two tests were wrong before, shall I correct them here?',
    'idle I need access to the staging logs to go on',
  ],
  complete: [
    'complete Done: all tests pass, pull request opened',
    'complete Finished, the summary is in the pull request',
    'complete Nothing to change: the problem is fixed on main already',
    'complete Merged the last of three small pull requests',
  ],
  failure: [
    'failure The tests need a service that is not reachable from here',
    'failure Gave up after three attempts, notes are in the branch',
    'failure The dependency has no release for this version',
  ],
};

/** How often a task's last report has each state, in hundredths. */
export const stateShares = { working: 22, idle: 26, complete: 44, failure: 8 } as const;
