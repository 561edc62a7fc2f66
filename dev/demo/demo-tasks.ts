import type { Situation } from './situations.ts';
import type { ReportText } from './workspace-history.ts';

/** How long ago: a number and one of s, m, h, d, w. */
export type Age = `${number}${'s' | 'm' | 'h' | 'd' | 'w'}`;

/** A task of the demo. */
export interface DemoTask {
  /**
   * The key of its template; its name, of at most 22 characters, since the workspace is called `task-<name>-<four hex digits>`;
   * what has happened to it; and how long ago its latest build was made.
   */
  readonly what: readonly [template: string, name: string, is: Situation, age: Age];
  readonly prompt: string;
  /** What the agent reported, from the oldest to the newest. */
  readonly says?: readonly ReportText[];
  readonly favorite?: true;
  /** How long ago the workspace became dormant. */
  readonly dormant?: Age;
  /** Subjects that may use it: a username, `@group`, or `@organization` for its group Everyone. */
  readonly shared?: Readonly<Record<string, readonly string[]>>;
  /** Whether the builds are of the template's oldest version. */
  readonly outdated?: true;
  /** Whether a dev container with an agent of its own runs inside. */
  readonly subAgent?: true;
}

/** The actions of Coder's sharing role `use`, and all actions. */
const use = ['application_connect', 'read', 'ssh', 'start', 'stop'];
const all = ['*'];

const pull = (repository: string, number: number) => `https://git.example.com/${repository}/pull/${number}`;
const issue = (repository: string, number: number) => `https://git.example.com/${repository}/issues/${number}`;

const ledgerMigration = `# Move the ledger from floating point to integer cents

The ledger still keeps amounts as \`double precision\`. Finance found 0.01 differences in the October close, see the attached
list. Please move everything to \`BIGINT\` cents.

## What has to change

1. **Schema.** Add \`amount_cents\`, \`fee_cents\` and \`tax_cents\` to \`entries\`, \`holds\` and \`settlements\`, all NOT NULL with
   a default of 0. Do not drop the old columns in this step.
2. **Backfill.** In batches of 5,000 rows by primary key, resumable, at most 200 ms a batch. Round half to even and write every
   row whose rounding differs by more than half a cent to \`ledger_rounding_review\`.
3. **Code.** All arithmetic goes through \`money.Amount\`; no \`float64\` may be left in \`internal/ledger\`:

   \`\`\`go
   type Amount struct {
       Cents    int64
       Currency string // ISO 4217
   }
   \`\`\`

4. **Dual write** behind the flag \`ledger_cents_dual_write\`, and a nightly job that compares both columns and alerts on any
   difference.
5. **Tests.** Property tests for add, subtract and split: splitting an amount in *n* parts and adding them up again gives the
   amount, for every *n* from 1 to 100.

## What must not happen

* No table lock above one second: the settlement run of 02:00 UTC must not notice.
* No change of the public API. \`GET /v1/entries\` keeps answering decimals as strings ("12.30", not "12.3").
* Currencies without cents (JPY, KRW) and with three digits (KWD) must be right.

Start with the schema and the backfill, open a draft pull request early, and stop to ask when a decision is Finance's.
`;

const flakyTests = `The checkout suite fails about every eighth run on CI and nobody trusts it any more. Last failure:

\`\`\`
  1) checkout › applies a voucher before tax
     Error: expect(received).toBe(expected)
     Expected: "42.30 €"
     Received: "47.00 €"
       at test/checkout/voucher.spec.ts:88:31
\`\`\`

Find the cause (I suspect the shared price cache), fix it, and run the suite 50 times in a row to prove it. No retries, no
sleeps.`;

const incident = `We had an incident last night: between 01:10 and 01:52 UTC the search API answered 503 for 14 % of requests.

- the dashboards are linked in the incident channel
- deploy of search 3.18.0 was at 00:58
- the index rebuild ran at the same time as the cache warm-up

Write the post-mortem after the template in docs/post-mortems/TEMPLATE.md: timeline, impact, root cause, what went well, what did
not, action items with an owner each. Keep it blameless and under two pages.`;

const tidyCsv = `Parse the carrier's CSV export. Watch out:
\t- the separator is ";" and decimals use ","
\t- quotes are doubled ("" inside "…"), backslashes are literal: C:\\exports\\%date%
\t- the header line repeats on each page
Write the rows to shipments_staging, 100% of them or none.`;

/** The tasks of the demo by owner, besides the two with fixed times; developer has every status, phase and state. */
export const demoTasks: Readonly<Record<string, readonly DemoTask[]>> = {
  developer: [
    {
      what: ['coding', 'fix-login-redirect', 'running', '14m'],
      favorite: true,
      prompt:
        'After signing in, users land on / instead of the page they came from. Find out why the return path is lost and fix it, with a test.',
      says: [
        'working Reading src/auth/redirect.ts and its tests',
        'working Reproduced: the return path is dropped when the session has expired',
        'working Running 34 tests in test/auth',
      ],
    },
    {
      what: ['monorepo', 'ledger-to-cents', 'running', '6h'],
      favorite: true,
      prompt: ledgerMigration,
      shared: { teammate: use, lead: all },
      says: [
        'working Schema migration written, checking lock times on a copy of production',
        `idle Draft is up. Question for Finance: what happens to the 212 rows in the review table? | ${pull('atlas/ledger', 918)}`,
      ],
    },
    {
      what: ['coding', 'flaky-checkout-tests', 'running', '47m'],
      prompt: flakyTests,
      says: [
        'working Ran the suite 20 times: 3 failures, always after the price cache test',
        'working Run 31 of 50 is green so far',
      ],
    },
    {
      what: ['monorepo', 'rate-limit-headers', 'running', '3h'],
      prompt:
        'Return RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset on every public endpoint. Update the OpenAPI file and the client.',
      says: [
        'working Adding the headers in the gateway middleware',
        `complete Headers added, contract tests green, pull request opened | ${pull('atlas/gateway', 1204)}`,
      ],
    },
    {
      what: ['coding', 'upgrade-react-19', 'running', '1d'],
      outdated: true,
      prompt: 'Upgrade the storefront to React 19. One commit per breaking change, and keep the bundle under 180 kB gzipped.',
      says: [
        'working 61 of 74 type errors fixed',
        'failure The date picker has no release for React 19; its fork breaks keyboard navigation',
      ],
    },
    {
      what: ['docs', 'post-mortem-search', 'running', '2h'],
      prompt: incident,
      shared: { '@atlas': ['read'] },
      says: [
        'working Collecting the timeline from deploys and alerts',
        'idle First draft is in docs/post-mortems/2026-search-503.md, who owns action item 3?',
      ],
    },
    {
      what: ['coding', 'umlaut-search', 'running', '95m'],
      prompt:
        'Suche nach „Möbelfüße“ findet nichts, „Moebelfuesse“ auch nicht. Bitte Normalisierung (NFC, ß→ss, ä→ae) im Index ergänzen. 🙏',
      says: [
        'working Analyzer angepasst, Index wird neu aufgebaut (3,2 Mio. Dokumente)',
        'idle Soll „Maße“ auch „Masse“ finden? Bitte entscheiden.',
      ],
    },
    {
      what: ['data', 'churn-notebook', 'running', '5h'],
      prompt:
        'Rebuild the churn notebook on the new events table and compare the October numbers with the old ones. Explain any difference above 0.5 %.',
      says: [
        'working Query 7 of 12: cohort retention',
        'complete Numbers agree within 0.2 %, notebook and summary are committed',
      ],
    },
    {
      what: ['coding', 'cart-a11y', 'running', '26h'],
      prompt: 'Make the cart usable with a keyboard and a screen reader. WCAG 2.2 AA; axe must report nothing.',
      says: [
        'working Focus order fixed, labels next',
        `complete axe reports 0 violations (was 23) | ${pull('atlas/storefront', 2231)}`,
      ],
    },
    {
      what: ['coding', 'explain-build-cache', 'running', '8m'],
      prompt: 'Why is the build cache missed on every branch?',
      says: ['working Comparing cache keys of main and of three branches'],
    },
    { what: ['coding', 'say-hello', 'running', '33m'], prompt: 'hello' },
    {
      what: ['monorepo', 'split-orders-service', 'running', '3d'],
      favorite: true,
      subAgent: true,
      prompt:
        'Plan how to split returns out of the orders service: list tables, events and callers, propose a sequence of small steps, each deployable on its own. No code yet.',
      says: ['working Mapped 41 callers and 9 events', 'idle Plan in docs/plans/returns.md, ready for your comments'],
    },
    {
      what: ['coding', 'retry-webhooks', 'pending', '25s'],
      prompt:
        'Retry failed webhooks with exponential backoff and jitter, at most 24 hours, and show the attempts in the admin page.',
    },
    {
      what: ['data', 'dedupe-customers', 'pending', '70s'],
      prompt:
        'Find duplicate customers by e-mail, phone and address. Do not merge anything, write the pairs with a score to customer_duplicates.',
    },
    {
      what: ['coding', 'drop-moment', 'starting', '35s'],
      prompt: 'Replace moment by Intl and Temporal in packages/dates, then remove the dependency.',
    },
    {
      what: ['monorepo', 'grpc-deadlines', 'starting', '50s'],
      prompt: 'Every outgoing gRPC call needs a deadline. Find those without one, propose values from the p99 of the last week.',
    },
    {
      what: ['coding', 'image-lazy-loading', 'agent connecting', '2m'],
      prompt: 'Load product images lazily below the fold and give every image a width and a height, so that nothing jumps.',
    },
    {
      what: ['coding', 'invoice-pdf-fonts', 'agent starting', '3m'],
      prompt:
        'Invoices print Polish names as boxes: embed a font with Latin Extended and Cyrillic, and add a golden PDF per script.',
    },
    {
      what: ['docs', 'onboarding-guide', 'app starting', '2m'],
      prompt:
        'Rewrite the onboarding guide for backend engineers: first day, first week, first on-call. Remove everything about the old VPN.',
    },
    {
      what: ['data', 'forecast-returns', 'agent timed out', '40m'],
      prompt: 'Forecast returns per warehouse for the next eight weeks; a simple seasonal model is enough.',
    },
    {
      what: ['coding', 'stock-race', 'app unhealthy', '4h'],
      prompt: 'Two customers can buy the last item. Reproduce it with a test, then fix it without a global lock.',
      says: [
        'working Wrote a test with 50 parallel checkouts; it oversells in 4 of 10 runs',
        'working Trying SELECT … FOR UPDATE on the stock row',
      ],
    },
    {
      what: ['coding', 'bump-base-image', 'slow startup script', '90m'],
      prompt: 'Move all Dockerfiles to the new base image and fix what breaks.',
      says: ['working 5 of 11 images build'],
    },
    {
      what: ['coding', 'lint-warnings', 'failed startup script', '5h'],
      prompt: 'Get rid of the remaining 312 lint warnings in packages/ui. Do not disable rules.',
      says: ['working 118 warnings left', 'idle 9 warnings need a decision about the public API'],
    },
    {
      what: ['coding', 'sitemap-timeouts', 'agent disconnected', '9h'],
      prompt: 'The sitemap takes 40 s and times out. Stream it.',
      says: ['working Measuring: 36 of 40 s are one query per product'],
    },
    {
      what: ['monorepo', 'feature-flag-cleanup', 'agent off', '2d'],
      prompt: 'Remove the feature flags that have been at 100 % for more than 90 days, one pull request per team.',
      says: ['working Found 46 flags, 17 of them in code that nobody calls'],
    },
    {
      what: ['coding', 'csv-import', 'agent shutting down', '7h'],
      prompt: tidyCsv,
      says: ['working 412,880 rows parsed, 0 rejected', 'complete All rows are in staging, the importer has 19 tests'],
    },
    {
      what: ['coding', 'price-rounding', 'stopping', '20s'],
      prompt: 'Round prices after the discount, not before. Legal wants this by Friday.',
      says: ['working Changing 3 places', `complete Rounding moved behind the discount | ${pull('atlas/checkout-api', 377)}`],
    },
    {
      what: ['coding', 'orphaned-uploads', 'stopped', '19h'],
      prompt: 'List uploads that no order, product or user refers to any more, with their size. Dry run only!',
      says: ['complete 18,204 orphans, 311 GB; the list is in reports/orphans.csv'],
    },
    {
      what: ['monorepo', 'k8s-probes', 'stopped', '3d'],
      favorite: true,
      prompt: 'Review readiness and liveness probes of all services. A slow database must not restart pods.',
      says: ['working Reading 31 charts', 'idle 8 charts use the database in the liveness probe, shall I change them all?'],
    },
    {
      what: ['docs', 'changelog-2-31', 'stopped, not flagged', '6d'],
      prompt: 'Write the release notes of 2.31 from the merged pull requests, grouped by audience, no internal names.',
      says: [`complete Release notes are ready for review | ${pull('atlas/handbook', 640)}`],
    },
    {
      what: ['coding', 'cors-preflight', 'stopped, not flagged', '11d'],
      outdated: true,
      prompt: 'Preflight requests fail for staging only. Find out why.',
      says: ['failure Staging answers from another gateway, I have no access to its configuration'],
    },
    {
      what: ['coding', 'graphql-n-plus-one', 'stop failed', '13h'],
      prompt: 'The order history query makes one SQL call per line item. Batch them.',
      says: ['working Added a loader, 212 queries became 4'],
    },
    {
      what: ['coding', 'tax-rates-2027', 'failed', '50m'],
      prompt: 'Add the 2027 VAT rates and make every rate valid from a date.',
    },
    {
      what: ['data', 'warehouse-costs', 'failed: quota', '4h'],
      prompt: 'Which ten queries cost us the most in the warehouse last month, and how could each be cheaper?',
    },
    {
      what: ['coding', 'e2e-on-arm', 'failed: image', '1d'],
      prompt: 'Run the end-to-end tests on arm64 runners as well; say what is slower.',
    },
    {
      what: ['monorepo', 'move-to-bazel-8', 'restart failed', '2h'],
      prompt: 'Upgrade Bazel to 8 with bzlmod only.',
      says: ['working 23 of 60 modules converted'],
    },
    {
      what: ['coding', 'search-suggestions', 'canceling', '45s'],
      prompt: 'Prototype search suggestions with a trie in memory; measure latency and memory with the real catalogue.',
    },
    {
      what: ['coding', 'wrong-branch', 'canceled', '2h'],
      prompt: 'Cherry-pick the voucher fix to release/2.30 (oops, wrong template)',
    },
    {
      what: ['coding', 'old-spike-redis', 'deleting', '30s'],
      prompt: 'Spike: sessions in Redis instead of the database. Throw-away code is fine.',
      says: ['complete Spike works, notes are in the wiki'],
    },
    {
      what: ['coding', 'hotfix-2-30-4', 'deleted', '4d'],
      prompt: 'Hotfix 2.30.4: orders with an empty company name cannot be exported.',
      says: [`complete Released | ${pull('atlas/storefront', 2188)}`],
    },
    {
      what: ['coding', 'session-cookie-flags', 'restarted', '22m'],
      prompt: 'Set Secure, HttpOnly and SameSite=Lax on all cookies; list those that need SameSite=None and why.',
      says: ['idle Which cookies does the payment page need in its frame?'],
    },
    {
      what: ['monorepo', 'otel-tracing', 'restarted and reporting', '70m'],
      shared: { '@backend': use },
      prompt:
        'Trace a request from the gateway to the database with OpenTelemetry; keep the overhead under 2 % and sample by route.',
      says: ['working Spans cover gateway and orders, ledger is next'],
    },
    {
      what: ['coding', 'delete-account', 'restarting', '40s'],
      prompt:
        'Implement account deletion: 30 days of grace, then anonymise orders and delete the rest. Ask before touching invoices.',
      says: ['idle Invoices must be kept for 10 years, see docs/legal; shall I keep name and address there?'],
    },
    {
      what: ['coding', 'perf-budget', 'stopped', '5w'],
      dormant: '8d',
      prompt: 'Add a performance budget to CI: fail when the product page gets slower than 2.5 s LCP on a mid-range phone.',
      says: ['working Calibrating the throttling', 'complete Budget is enforced, current value 2.1 s'],
    },
  ],
  teammate: [
    {
      what: ['monorepo', 'orders-outbox', 'running', '2h'],
      favorite: true,
      shared: { developer: use },
      prompt: 'Publish order events through an outbox table instead of after the commit. We lose about one event in 20,000.',
      says: [
        'working Relay reads in commit order, adding a test that kills it',
        'working 40 of 40 kill tests passed, measuring the lag',
      ],
    },
    {
      what: ['monorepo', 'postgres-to-mysql', 'running', '9h'],
      prompt:
        'The reporting service is our last one on PostgreSQL. List every query that MySQL would not run as it stands, with the rewrite: DISTINCT ON, arrays, RETURNING, partial indexes, ILIKE, LATERAL.',
      says: [
        'working 88 of 131 queries classified',
        'idle 6 queries use arrays in a way that needs another table, options are in the document',
      ],
    },
    {
      what: ['coding', 'idempotent-refunds', 'running', '55m'],
      prompt:
        'POST /refunds must be safe to repeat. Use an Idempotency-Key, keep answers for 24 h, and reject the same key with another body.',
      says: ['working Writing the table and the middleware', 'working Testing concurrent requests with the same key'],
    },
    {
      what: ['coding', 'shrink-docker-image', 'running', '4h'],
      prompt: 'checkout-api is a 1.4 GB image. Get it under 200 MB.',
      says: [
        'working Multi-stage build: 412 MB',
        `complete 164 MB, cold start 3.1 s faster | ${pull('atlas/checkout-api', 381)}`,
      ],
    },
    {
      what: ['data', 'slow-query-report', 'running', '7h'],
      prompt:
        'Take the slow query log of the last seven days, group by fingerprint, and explain the top 20 with their plans and a suggestion each.',
      says: ['working Explaining 14 of 20', 'complete Report is done: 3 indexes would remove 71 % of the slow time'],
    },
    {
      what: ['coding', 'token-rotation', 'running', '30h'],
      outdated: true,
      prompt: 'Rotate the signing key every 30 days without logging anyone out.',
      says: [
        'working Two keys are accepted, one signs',
        'failure The mobile app pins the key, rotation would sign out 40 % of users',
      ],
    },
    {
      what: ['docs', 'runbook-kafka', 'running', '3h'],
      prompt: 'Write a runbook for consumer lag: how to see it, the five usual causes, what to do at 3 am, whom to call.',
      says: ['idle Draft is up, please check the escalation path'],
    },
    {
      what: ['coding', 'bulk-price-update', 'pending', '40s'],
      prompt: 'Allow uploading a price list of up to 50,000 rows; validate everything first, apply all or nothing.',
    },
    {
      what: ['coding', 'typed-config', 'starting', '20s'],
      prompt:
        'Parse the environment once at start into a typed object, report every problem in one message, never print a secret.',
    },
    {
      what: ['monorepo', 'connection-pool', 'app starting', '3m'],
      prompt: 'We run out of database connections at deploys. Work out pool sizes for all services from their concurrency.',
    },
    {
      what: ['monorepo', 'dead-letter-replay', 'agent lost', '11h'],
      prompt: 'Build a small command that shows dead letters and sends chosen ones again, with a dry run.',
      says: ['working list and show work, replay is next'],
    },
    {
      what: ['coding', 'time-zone-bugs', 'app unhealthy', '6h'],
      prompt: 'Delivery dates are off by one for customers east of UTC+9. Find all places that cut a timestamp to a date.',
      says: ['working 14 places found, 9 are wrong'],
    },
    {
      what: ['monorepo', 'archive-orders', 'stopped', '2d'],
      prompt:
        'Design archiving of orders older than five years: partitions or a second database? Compare with numbers from staging.',
      says: [
        'working Loading 80 million rows into both variants',
        'complete Comparison is written: partitions win on restore time',
      ],
    },
    {
      what: ['coding', 'api-pagination', 'stopped, not flagged', '9d'],
      prompt:
        'Replace OFFSET by keyset pagination in GET /orders and GET /customers; old parameters keep working for one release.',
      says: [`complete Page 10,000 takes 4 ms instead of 9 s | ${pull('atlas/checkout-api', 352)}`],
    },
    {
      what: ['coding', 'sandbox-payments', 'canceled', '1d'],
      prompt: 'Simulate the payment provider locally, with failures on demand.',
    },
    {
      what: ['coding', 'gift-cards', 'restarted, app starting', '2m'],
      prompt: 'Gift cards: data model, redeem, partial redeem, refund to card. Start with the model and the invariants.',
      says: ['working Model has 4 tables and 7 invariants'],
    },
    {
      what: ['monorepo', 'lock-order', 'running', '75m'],
      // may connect and use a shell, may not read: it is in no list of theirs
      shared: { tomas: ['application_connect', 'ssh'] },
      prompt:
        'Deadlock found when trying to get lock (1213), about ten times a day in the settlement run. Show which two statements meet, then order them.',
      says: ['working Reproduced with two sessions', 'idle The fix changes the order of the audit rows, is that acceptable?'],
    },
    {
      what: ['coding', 'json-logs', 'agent connecting', '80s'],
      prompt:
        'Log JSON in one line per event with a request id, and remove everything that looks like an e-mail address or a token.',
    },
  ],
  lead: [
    {
      what: ['docs', 'adr-event-schema', 'running', '4h'],
      prompt: 'Write an ADR: Protobuf or Avro for events. One page, what we tried, what we give up.',
      shared: { '@backend': ['read'], '@frontend': ['read'] },
      says: ['working Comparing schema evolution rules', 'idle One page, needs your decision on the registry'],
    },
    {
      what: ['data', 'dora-metrics', 'running', '1d'],
      prompt:
        'Compute deployment frequency, lead time, change failure rate and time to restore per team for this year. No ranking, please.',
      says: ['working Joining deploys with incidents', 'complete Numbers and a chart per team are in the notebook'],
    },
    {
      what: ['monorepo', 'owners-file', 'running', '90m'],
      prompt: 'Generate CODEOWNERS from who really reviewed what in the last six months, and list directories without an owner.',
      says: ['working 1,902 pull requests read'],
    },
    {
      what: ['docs', 'q1-roadmap-draft', 'stopped', '4d'],
      prompt: 'Turn the notes in planning/q1 into a roadmap draft with themes, bets and what we will not do.',
      says: ['idle Two bets contradict each other, see the comments'],
    },
    {
      what: ['coding', 'license-audit', 'stop pending', '30s'],
      prompt: 'Audit the licences of all dependencies and list what needs attention: copyleft, unknown, changed since last year.',
      says: ['complete 2,318 packages, 4 need attention'],
    },
    {
      what: ['monorepo', 'sunset-v1-api', 'restart pending', '60s'],
      prompt: 'Who still calls /v1? Group by client and endpoint over 30 days, and draft the mail to each owner.',
      says: ['idle 11 clients left, 3 of them are ours'],
    },
    {
      what: ['coding', 'interview-exercise', 'failed', '2d'],
      prompt: 'Prepare a 60-minute pairing exercise on an inventory service with two planted bugs, one of them a race.',
    },
  ],
  admin: [
    {
      what: ['coding', 'rotate-secrets', 'running', '3h'],
      prompt: 'List every secret older than 180 days and write the rotation steps for each. Do not print any value.',
      says: ['working 31 secrets found, steps written for 12', 'idle 4 secrets have no known owner'],
    },
    {
      what: ['monorepo', 'terraform-drift', 'running', '40m'],
      prompt: 'Compare the Terraform state with what really runs in eu-central and explain each difference.',
      says: ['working Planning 18 of 26 modules'],
    },
    {
      what: ['docs', 'backup-drill', 'stopped', '12d'],
      prompt: 'Write the protocol of the restore drill: what was restored, how long it took, what was missing.',
      says: ['complete Protocol is filed, restore took 41 minutes'],
    },
    {
      what: ['coding', 'sso-migration', 'agent failed to shut down', '3d'],
      prompt: 'Move internal tools from passwords to single sign-on. Inventory first: tool, users, protocol, effort.',
      says: ['working 22 tools listed, 5 speak neither SAML nor OIDC'],
    },
    {
      what: ['legacy', 'old-cron-jobs', 'running', '6w'],
      prompt: 'Which cron jobs on the old host still do something useful?',
      says: ['idle 7 of 52 jobs wrote a file this year'],
    },
    {
      what: ['monorepo', 'cluster-upgrade', 'running', '5h'],
      prompt:
        'Go through the release notes from 1.32 to 1.34 and list what our charts, operators and admission webhooks must change before the upgrade.',
      says: ['working Checking 31 charts against removed APIs', 'complete 2 charts and 1 webhook need a change, 28 are fine'],
    },
  ],
  mei: [
    {
      what: ['coding', 'i18n-japanese', 'running', '2h'],
      favorite: true,
      prompt:
        '商品ページを日本語に対応させてください。日付・通貨・改行(禁則処理)に注意し、スクリーンショットで確認してください。',
      says: ['working 翻訳キー 412 件を抽出しました', 'working 禁則処理を確認中: 商品一覧、カート、支払い'],
    },
    {
      what: ['coding', 'dark-mode', 'running', '6h'],
      prompt:
        'Dark mode for the storefront: colours from design tokens only, contrast checked, no flash of the light theme on load.',
      says: [
        'working Tokens done, 3 components with hard-coded colours left',
        `complete Ready for review with before and after pictures | ${pull('atlas/storefront', 2240)}`,
      ],
    },
    {
      what: ['coding', 'visual-regression', 'running', '1d'],
      prompt: 'Set up visual regression tests for the ten most visited pages. Mask prices and dates.',
      says: ['working Baselines taken in 3 widths', 'failure Fonts render differently on CI: 212 false differences'],
    },
    {
      what: ['coding', 'form-validation', 'agent starting', '2m'],
      prompt: 'Validate the address form as people type, but never before they have left the field.',
    },
    {
      what: ['mobile', 'scanner-permission', 'running', '80m'],
      shared: { developer: use, '@field-apps': use },
      prompt: 'Android 16 asks for the camera each time the scanner opens. Ask once, explain why, and handle "only this time".',
      says: ['working Tested on 3 of 5 API levels'],
    },
    {
      what: ['mobile', 'offline-sync', 'stopped', '8d'],
      outdated: true,
      prompt:
        'Drivers lose deliveries when they drive through a tunnel. Queue changes on the phone and merge them later; list the conflicts that can happen.',
      says: ['idle 5 kinds of conflict, 2 need a product decision'],
    },
  ],
  tomas: [
    {
      what: ['coding', 'storybook-9', 'running', '5h'],
      prompt: 'Upgrade Storybook to 9 and delete stories of components that are gone.',
      says: [
        'working 34 dead stories removed',
        `complete Upgrade done, build is 40 s faster | ${pull('atlas/storefront', 2236)}`,
      ],
    },
    {
      what: ['coding', 'czech-plurals', 'running', '50m'],
      prompt: 'V košíku je „2 položek“. Oprav tvary množného čísla (1 položka, 2 položky, 5 položek) ve všech textech.',
      says: ['working Opraveno 27 z 61 textů'],
    },
    {
      what: ['coding', 'css-container-query', 'running', '3h'],
      prompt: 'Replace the resize observers in the product grid with container queries.',
      says: ['working 6 of 9 components', 'idle The gallery needs scroll-driven animation, is that fine for Safari 17?'],
    },
    {
      what: ['coding', 'bundle-diet', 'app not watched', '10h'],
      prompt:
        'What is in our bundle that nobody needs on the first page? Make a table, biggest first, and remove the first three.',
      says: ['working lodash, a date library and two icon sets: 96 kB', 'complete First page is 88 kB lighter'],
    },
    {
      what: ['coding', 'checkout-funnel', 'restarted', '3h'],
      prompt: 'Send funnel events from the checkout without personal data, and document each field.',
      says: ['working Events for 4 of 6 steps'],
    },
    {
      what: ['coding', 'remove-ie-polyfills', 'deletion failed', '2d'],
      prompt: 'Remove polyfills for browsers that we no longer support.',
      says: ['complete 11 polyfills removed, 31 kB less'],
    },
    {
      what: ['coding', 'cookie-banner', 'stopped', '7d'],
      prompt:
        'The cookie banner covers the "Buy" button on small phones; fix the layout & keep the consent text as it is (100 % of it).',
      says: [`complete Fixed for widths from 320 px | ${pull('atlas/storefront', 2197)}`],
    },
  ],
  amara: [
    {
      what: ['monorepo', 'inventory-cache', 'running', '2h'],
      prompt:
        'Cache stock levels for 5 s at the gateway and invalidate on change. Prove with a test that nobody sees a sold-out item as available for longer.',
      says: ['working Invalidation by event works, testing the lost event'],
    },
    {
      what: ['coding', 'openapi-client', 'running', '8h'],
      prompt: 'Generate the TypeScript client from the OpenAPI file and delete the hand-written one. Callers must not change.',
      says: ['working 112 of 140 calls moved', `complete Hand-written client is gone | ${pull('atlas/gateway', 1211)}`],
    },
    {
      what: ['coding', 'mutation-testing', 'running', '20h'],
      prompt: 'Run mutation testing on packages/pricing and write tests for the survivors that matter.',
      says: ['working 418 mutants, 61 survive', 'idle 9 survivors left, all in logging; leave them?'],
    },
    {
      what: ['data', 'fraud-features', 'restarted at once', '35m'],
      prompt: 'Compute the ten fraud features of the design document for the last 90 days, as one incremental job.',
      says: ['working Feature 4 of 10'],
    },
    {
      what: ['monorepo', 'helm-values-schema', 'agent slow to shut down', '5h'],
      prompt: 'Give every chart a values.schema.json, so that a typo fails at once.',
      says: ['working 19 of 31 charts'],
    },
    {
      what: ['coding', 'email-templates', 'canceled', '6h'],
      prompt: 'Move the mail templates to MJML.',
    },
    {
      what: ['coding', 'race-detector', 'stop canceled', '4h'],
      prompt: 'Run all Go tests with -race on CI and fix what it finds, worst first.',
      says: ['working 7 races found, 5 fixed'],
    },
    {
      what: ['coding', 'warehouse-labels', 'starting', '45s'],
      prompt: 'Print labels in the order of the picking route.',
    },
    {
      what: ['data', 'index-review', 'running', '3h'],
      prompt: 'Which indexes on orders_*, stock_levels and events are never used? Say for each what would break without it.',
      says: [
        'working Reading 30 days of index statistics',
        'idle 14 indexes are unused, 3 of them only look so (month-end jobs)',
      ],
    },
  ],
  priya: [
    {
      what: ['coding', 'template-smoke-test', 'running', '25m'],
      prompt: 'What directory are you in, which tools are installed, and can you reach the package mirror? Answer in a table.',
      says: ['complete Table is in the chat: 23 tools, mirror answers in 12 ms'],
    },
    {
      what: ['monorepo', 'prebuilt-workspaces', 'no app', '3h'],
      prompt: 'Measure how long a workspace takes from click to prompt, step by step, with and without prebuilds.',
      says: ['working 12 of 20 runs'],
    },
    {
      what: ['docs', 'template-handbook', 'stopped', '16d'],
      prompt: 'Document every template: for whom, what is inside, what it costs a day.',
      says: ['complete 8 pages written'],
    },
  ],
  'release-bot': [
    {
      what: ['coding', 'nightly-deps-1', 'running', '7h'],
      shared: { '@release': all },
      prompt: `Update dependencies of atlas/storefront, patch and minor only. Context: ${issue('atlas/storefront', 1500)}`,
      says: [
        'working 19 updates, running the tests',
        `complete 18 updated, 1 held back (breaks SSR) | ${pull('atlas/storefront', 2243)}`,
      ],
    },
    {
      what: ['monorepo', 'nightly-deps-2', 'running', '7h'],
      shared: { '@release': all },
      prompt: `Update dependencies of atlas/gateway, patch and minor only. Context: ${issue('atlas/gateway', 1501)}`,
      says: [`failure protobuf 31 changes generated code in 212 files, stopping | ${issue('atlas/gateway', 1530)}`],
    },
    {
      what: ['docs', 'release-notes-2-32', 'running', '2h'],
      shared: { '@release': use, '@frontend': ['read'] },
      prompt: 'Collect the merged pull requests since 2.31.0 and draft the release notes of 2.32.',
      says: ['working 64 pull requests, 9 without a label'],
    },
    {
      what: ['coding', 'triage-weekly', 'stopped', '5d'],
      prompt: 'Label the issues opened in the last week and link duplicates. Never close anything.',
      says: ['complete 37 issues labelled, 6 duplicates linked'],
    },
    {
      what: ['coding', 'revert-2-31-1', 'deleted', '9d'],
      prompt: 'Revert the release 2.31.1 on all stages and verify checkout with the smoke tests.',
      says: ['complete Reverted, 12 of 12 smoke tests pass'],
    },
  ],
  suspended: [
    {
      what: ['coding', 'coupon-codes', 'stopped', '4w'],
      prompt: 'Generate 10,000 coupon codes without lookalike characters.',
      says: ['complete Codes written, alphabet has 28 characters'],
    },
    {
      what: ['coding', 'half-done-refactor', 'agent off', '5w'],
      outdated: true,
      prompt: 'Refactor OrderService into smaller classes',
      says: ['working 2 of 9 classes extracted'],
    },
  ],
  yusuf: [
    {
      what: ['data', 'supplier-scores', 'stopped, not flagged', '7w'],
      dormant: '3w',
      shared: { lead: use },
      prompt: 'Score suppliers by lateness, damage and price changes. Show the formula.',
      says: ['idle Weights are a guess, please confirm'],
    },
  ],
  outsider: [
    {
      what: ['partner-coding', 'route-optimizer', 'running', '3h'],
      favorite: true,
      prompt:
        'The optimizer takes 9 minutes for 400 stops. Profile it, then try 2-opt with neighbour lists before anything clever.',
      says: ['working Profile: 83 % in distance lookups', 'working Neighbour lists: 9 min became 48 s, checking quality'],
    },
    {
      what: ['partner-coding', 'facture-import', 'running', '5h'],
      prompt:
        'Importer les factures au format Factur-X : lire le XML embarqué, vérifier la TVA, refuser les doublons. Les messages d’erreur en français.',
      says: ['working 38 factures de test sur 50 sont lues', 'idle Deux fournisseurs numérotent par année : est-ce un doublon ?'],
    },
    {
      what: ['mobile', 'crash-on-rotate', 'running', '100m'],
      prompt: 'The signature screen crashes when the phone is rotated.',
      says: [`complete Fixed: the bitmap was recycled twice | ${pull('meridian/field-app', 87)}`],
    },
    {
      what: ['partner-coding', 'geocoder-fallback', 'starting', '30s'],
      prompt: 'Fall back to the second geocoder when the first answers slowly twice in a row.',
    },
    {
      what: ['mobile', 'battery-drain', 'failed: image', '8h'],
      prompt: 'Location updates drain the battery in four hours. Measure with three intervals.',
    },
    {
      what: ['partner-coding', 'toll-costs', 'stopped', '3d'],
      shared: { developer: ['read'] },
      prompt: 'Add toll costs per country to the route price, with a source for every rate.',
      says: ['complete 14 countries, 3 sources disagree and are marked'],
    },
    {
      what: ['partner-coding', 'map-tiles-cache', 'pending', '50s'],
      prompt: 'Cache map tiles on disk, 2 GB at most, least recently used first.',
    },
  ],
  ingrid: [
    {
      what: ['partner-coding', 'gdpr-export', 'running', '1d'],
      prompt:
        'Export everything we store about a driver as one zip with a readable index page. Blåbærsyltetøy must survive the encoding.',
      says: ['working 6 of 8 tables', 'idle Do GPS tracks count as personal data of the driver or of the company?'],
    },
    {
      what: ['partner-coding', 'quote-generator', 'canceling', '90s'],
      prompt: 'Generate quotes from the price list as PDF and HTML.',
    },
    {
      what: ['mobile', 'release-checklist', 'stopped', '2w'],
      prompt: 'Make a checklist for store releases from our last five rejections.',
      says: ['complete 21 points, 5 of them can be automated'],
    },
  ],
};

/** Workspaces of the demo that are no tasks. */
export interface DemoWorkspaces extends Pick<DemoTask, 'favorite' | 'dormant' | 'shared' | 'outdated'> {
  readonly what: readonly [owner: string, template: string, is: Situation, age: Age];
  /** Their names, separated by spaces. */
  readonly names: string;
  /** The prompt of a template of agents that was left empty. */
  readonly prompt?: '';
}

/** Workspaces beside the tasks: plain ones, and some of templates of agents that were started without a prompt. */
export const demoWorkspaces: readonly DemoWorkspaces[] = [
  { what: ['developer', 'kubernetes', 'running', '9h'], names: 'dev checkout-api', favorite: true },
  {
    what: ['developer', 'kubernetes', 'stopped', '2d'],
    names: 'ledger search-index load-test gateway-v2 returns-split',
  },
  { what: ['developer', 'docker', 'stopped', '6d'], names: 'scratch advent-of-code try-deno', outdated: true },
  { what: ['developer', 'docker', 'failed', '3h'], names: 'gpu-playground' },
  { what: ['developer', 'docker', 'deleted', '12d'], names: 'old-laptop-image' },
  { what: ['developer', 'coding', 'failed', '26h'], names: 'no-prompt-yet', prompt: '' },
  { what: ['developer', 'coding', 'starting', '30s'], names: 'plain-editor', prompt: '' },
  { what: ['teammate', 'kubernetes', 'running', '8h'], names: 'dev orders', shared: { developer: use } },
  { what: ['teammate', 'kubernetes', 'stopped', '4d'], names: 'refunds reporting kafka-lab outbox-lab' },
  { what: ['teammate', 'docker', 'stopped', '3w'], names: 'mysql-9-trial bench', dormant: '5d' },
  { what: ['teammate', 'monorepo', 'running', '5h'], names: 'agent-without-task' },
  { what: ['lead', 'kubernetes', 'running', '26h'], names: 'dev' },
  { what: ['lead', 'docker', 'stopped', '9d'], names: 'reviews demo-day hiring onboarding' },
  { what: ['admin', 'kubernetes', 'running', '3d'], names: 'ops bastion' },
  { what: ['admin', 'docker', 'stopping', '15s'], names: 'backup-drill' },
  { what: ['admin', 'kubernetes', 'agent disconnected', '5d'], names: 'metrics-lab' },
  { what: ['mei', 'kubernetes', 'running', '7h'], names: 'storefront design-tokens' },
  { what: ['mei', 'docker', 'stopped', '5d'], names: 'figma-export icons perf-lab i18n-lab' },
  { what: ['mei', 'vm', 'stopped', '10d'], names: 'android-build field-app' },
  { what: ['tomas', 'kubernetes', 'running', '6h'], names: 'storefront storybook' },
  { what: ['tomas', 'docker', 'stopped', '8d'], names: 'sandbox css-lab a11y-lab', outdated: true },
  { what: ['tomas', 'docker', 'canceled', '20h'], names: 'wrong-size' },
  { what: ['amara', 'kubernetes', 'running', '4h'], names: 'gateway inventory' },
  { what: ['amara', 'kubernetes', 'stopped', '3d'], names: 'pricing helm-lab race-lab fraud' },
  { what: ['amara', 'docker', 'agent starting', '2m'], names: 'mail-preview' },
  { what: ['priya', 'docker', 'running', '2h'], names: 'template-dev' },
  { what: ['priya', 'kubernetes', 'failed: quota', '1d'], names: 'biggest-instance' },
  { what: ['priya', 'coding', 'stopped', '3d'], names: 'agent-dry-run', prompt: '' },
  { what: ['noah', 'docker', 'stopped', '11d'], names: 'audit-2026 audit-2025' },
  { what: ['yusuf', 'kubernetes', 'stopped', '9w'], names: 'dev suppliers', dormant: '4w' },
  { what: ['suspended', 'docker', 'stopped', '5w'], names: 'dev coupons' },
  { what: ['release-bot', 'kubernetes', 'running', '1d'], names: 'builder-1 builder-2 builder-3' },
  { what: ['release-bot', 'kubernetes', 'restarted', '3h'], names: 'builder-4' },
  { what: ['release-bot', 'kubernetes', 'deleted', '6d'], names: 'builder-old' },
  { what: ['outsider', 'vm', 'running', '5h'], names: 'dev optimizer dispatch' },
  { what: ['outsider', 'vm', 'stopped', '6d'], names: 'geo-import tiles osm-extract' },
  { what: ['outsider', 'vm', 'pending', '20s'], names: 'simulator' },
  { what: ['ingrid', 'vm', 'running', '1d'], names: 'dev' },
  { what: ['ingrid', 'vm', 'stopped', '2w'], names: 'proposals legacy-erp training' },
  { what: ['ingrid', 'vm', 'deleting', '25s'], names: 'trade-fair-demo' },
];
