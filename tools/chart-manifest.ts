import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// `npm run chart` writes what Helm makes of the chart into a manifest, for clusters without Helm and for tests. It needs `helm`.

/** The chart. */
export const chartFolder = 'deploy/helm/tasks-service';

/** What Helm makes of it with its own values. */
export const manifestFile = 'deploy/kubernetes.yaml';

/** The oldest Kubernetes that the chart is for. */
const kubeVersion = '1.30.0';

/** Changes with every file of the chart, so that a test without Helm can tell that the manifest is not of it. */
export function chartDigest(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(chartFolder, { recursive: true, encoding: 'utf8' }).toSorted()) {
    if (/\.(yaml|tpl|txt)$/.test(file)) hash.update(`${file}\0`).update(readFileSync(join(chartFolder, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Lets Helm render the chart, with values set as by `--set`. */
export function renderChart(...values: readonly string[]): string {
  const sets = values.flatMap((value) => ['--set', value]);
  return execFileSync('helm', ['template', 'tasks-service', chartFolder, '--kube-version', kubeVersion, ...sets], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** The manifest: what Helm renders, under a line that says of which chart. */
export function manifest(): string {
  return `# Made by \`npm run chart\` of ${chartFolder}, ${chartDigest()}: change it there.\n${renderChart()}`;
}

if (import.meta.main) writeFileSync(manifestFile, manifest());
