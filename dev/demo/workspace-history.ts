import type { ReportText } from './demo-data.ts';
import type { Step } from './situations.ts';
import { type AgentPlan, type BuildPlan, hour, type Micros, minute, type ReportPlan, second } from './workspace-plan.ts';

/** A connected agent was last seen this long ago at most. */
const justNow = 8 * second;

/** What is needed to turn the steps of a situation into builds. */
interface History {
  readonly steps: readonly Step[];
  /** When the latest build was made. */
  readonly latest: Micros;
  readonly now: Micros;
  /** A random number below 1 for a named choice; each name is used at most once per build. */
  readonly random: (word: string) => number;
  /** Whether succeeded builds have `has_ai_task`, and their agents the task's app. */
  readonly task: boolean;
  readonly versionId: Buffer;
  readonly prompt?: string | undefined;
  readonly parameters?: Readonly<Record<string, string>> | undefined;
  /** The agent's reports, oldest first. */
  readonly says?: readonly ReportText[] | undefined;
  /** Whether agents also serve an editor. */
  readonly editor?: boolean;
  readonly subAgent?: boolean | undefined;
}

/** Makes the builds of a history, with times. Builds before the latest are 3 to 30 hours apart. */
export function buildsOf(history: History): BuildPlan[] {
  const { steps, now, task } = history;
  const times = buildTimes(history);
  const speaking = (history.says ?? []).length === 0 ? -1 : steps.findIndex((step) => step.reports === true);
  const builds: BuildPlan[] = [];
  for (const [index, step] of steps.entries()) {
    const span = { at: times[index] ?? now, end: times[index + 1] };
    const agent = step.agent === undefined ? undefined : agentOf(history, step.agent, span);
    builds.push({
      transition: step.transition,
      job: step.job,
      at: span.at,
      versionId: history.versionId,
      hasAiTask: task || step.job !== 'succeeded' ? step.flag : false,
      prompt: step.withoutPrompt === true ? undefined : history.prompt,
      parameters: history.parameters,
      error: step.error,
      agent,
      reports: index === speaking ? reportsOf(history, span.at, span.end ?? agent?.seenAt ?? now) : undefined,
    });
  }
  return builds;
}

/** The time of a build, and that of the next one if there is one. */
interface Span {
  readonly at: Micros;
  readonly end: Micros | undefined;
}

function buildTimes({ steps, latest, random }: History): Micros[] {
  const times = [latest];
  for (let left = steps.length - 1; left > 0; left--) {
    times.unshift((times[0] ?? latest) - 3 * hour - Math.floor(random(`before ${left}`) * 27 * hour));
  }
  return times;
}

function agentOf(history: History, { app, ...agent }: NonNullable<Step['agent']>, span: Span): AgentPlan {
  const common = { ...agent, subAgent: history.subAgent ?? false, seenAt: seenAt(history, agent.connection, span) };
  const editor = history.editor ?? false;
  if (!history.task) return { ...common, editor };
  // Without an app of its own, a task with an editor would be taken to report through the editor.
  return app === undefined ? common : { ...common, app, editor };
}

/** The time of an agent's last connection: shortly after the next build began, just now, or some time ago. */
function seenAt({ now, random }: History, connection: AgentPlan['connection'], { at, end }: Span): Micros {
  if (end !== undefined) return end + 4 * second + Math.floor(random('off') * 9 * second);
  if (connection === 'connected') return now - Math.floor(random('seen') * justNow);
  return now - Math.floor((now - at) * (0.2 + 0.3 * random('gone')));
}

/** Spreads reports over the time in which the agent was connected. A working agent has just reported, others some time ago. */
function reportsOf({ says = [], random }: History, at: Micros, until: Micros): ReportPlan[] {
  const from = at + minute;
  const working = says.at(-1)?.startsWith('working') === true;
  const spoken = (until - from) * (working ? 0.97 : 0.4 + 0.5 * random('said'));
  return says.map((text, index) => {
    const [head = text, uri] = text.split(' | ');
    const space = head.indexOf(' ');
    const jitter = 1 - (working ? 0.02 : 0.1) * random(`said ${index}`);
    return {
      at: from + Math.floor(((spoken * (index + 1)) / says.length) * jitter),
      state: head.slice(0, space) as ReportPlan['state'],
      message: head.slice(space + 1),
      ...(uri === undefined ? {} : { uri }),
    };
  });
}
