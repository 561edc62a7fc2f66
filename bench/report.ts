import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { type Check, isMet, type Table } from './bench.ts';

/** Describes the machine and the programs of the measurement. */
export function machine(engine: string, loadClient: string): Record<string, string> {
  const [cpu] = cpus();
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const version = (name: string): string => `${name} ${dependencies[name] ?? 'unknown'}`;
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    machine: `${cpus().length} x ${cpu?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${process.platform} ${process.arch}`,
    engine,
    versions: [`node ${process.version}`, ...['@grpc/grpc-js', '@connectrpc/connect-node', 'mysql2', 'knex'].map(version)].join(
      ', ',
    ),
    load: loadClient,
  };
}

/** Renders a table as aligned Markdown. */
export function render({ title, rows }: Table): string {
  const names = Object.keys(rows[0] ?? {});
  const cells = [names, ...rows.map((row) => names.map((name) => format(row[name] ?? '')))];
  const widths = names.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  const isNumber = names.map((name) => rows.some((row) => typeof row[name] === 'number'));
  const lines = cells.map((row) => {
    const padded = row.map((cell, column) =>
      isNumber[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
    );
    return `| ${padded.join(' | ')} |`;
  });
  const rule = `| ${widths.map((width, column) => (isNumber[column] === true ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))).join(' | ')} |`;
  return [`\n${title}\n`, lines[0], rule, ...lines.slice(1)].join('\n');
}

/** Renders the figures that have a target. */
export function renderChecks(checks: readonly Check[], quick: boolean): string {
  const rows = checks.map((check) => ({
    figure: check.what,
    value: check.value,
    target: check.least === undefined ? `<= ${check.most}` : `>= ${check.least}`,
    '': isMet(check, false) ? 'met' : isMet(check, quick) ? 'missed, within the slack of a quick run' : 'MISSED',
  }));
  return render({ title: 'Targets', rows });
}

/** Formats a number with three significant digits. */
function format(value: string | number): string {
  if (typeof value === 'string') return value;
  if (Number.isNaN(value)) return '–';
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en');
  return String(Number(value.toPrecision(3)));
}
