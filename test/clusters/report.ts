import type { BlowResult, RoundsReport } from '../support/cluster-rounds.ts';

/** The columns of the table, each with the figure of a blow. */
const columns: readonly (readonly [title: string, figure: (blow: BlowResult) => number | undefined])[] = [
  ['noticed', ({ noticedMs }) => noticedMs],
  ['written', ({ writtenMs }) => writtenMs],
  ['shows', ({ shownMs }) => shownMs],
  ['all watchers', ({ followedMs }) => followedMs],
  ['not ready', ({ unreadyMs }) => unreadyMs],
  ['back', ({ backMs }) => backMs],
];

/** What came of a run, as text: a table of the blows in Markdown, the other figures, and what is wrong. */
export function renderRounds(report: RoundsReport): string {
  const rows = [
    ['after', ...columns.map(([title]) => title), 'takeovers'],
    ['---', ...columns.map(() => '---:'), '---:'],
    ...report.blows.map((blow) => [blow.name, ...columns.map(([, figure]) => seconds(figure(blow))), String(blow.takeovers)]),
  ];
  const { writes, lag, refusals, faults } = report;
  return [
    ...rows.map((row) => `| ${row.join(' | ')} |`),
    '',
    `${report.seconds.toFixed(0)} s; transactions: ${writes.committed} committed, ${writes.rolledBack} rolled back, ${writes.refused} refused`,
    `refused with: ${Object.entries(refusals)
      .map(([what, times]) => `${times} ${what}`)
      .join(', ')}`,
    `${report.takeovers} takeovers, ${report.events} events, ${report.tasks} tasks`,
    `from COMMIT to a watcher, outside of failovers: half within ${lag.p50.toFixed(0)} ms, 99 of 100 within ${lag.p99.toFixed(0)} ms, all ${lag.probes} within ${lag.most.toFixed(0)} ms`,
    ...faults.slice(0, 30).map((fault) => `FAILED: ${fault}`),
    faults.length === 0 ? 'nothing is lost, nothing is stale, nothing differs' : `${faults.length} faults`,
  ].join('\n');
}

function seconds(milliseconds: number | undefined): string {
  return milliseconds === undefined ? '' : `${(milliseconds / 1000).toFixed(1)} s`;
}
