import { useEffect, useSyncExternalStore } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { taskPath } from './address.ts';
import { basePath } from './base-path.ts';
import { onChanges } from './changes.ts';
import { goTo } from './navigation.tsx';
import { startPace } from './pace.ts';
import type { Service } from './service.ts';
import { useService } from './service-context.ts';
import { milliseconds, titleOf } from './task-words.ts';

/** Whether the user wants notifications of tasks that begin to wait; `impossible` where the browser has none. */
export type NotificationChoice = 'on' | 'off' | 'refused' | 'impossible';

const storageKey = `tasks-service.notify${basePath}`;

/** How soon waiting tasks are read again after a change, and how often anyway, in milliseconds. */
const soonestMs = 5000;
const latestMs = 15_000;

/** Waiting tasks that are read at once, the newest. */
const pageSize = 50;

/** Longer questions are cut: systems show about as much. */
const shownCharacters = 300;

const listeners = new Set<() => void>();

/** The present choice; the component renders again when it changes. */
export function useNotificationChoice(): NotificationChoice {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    addEventListener('storage', listener); // another tab
    return () => {
      listeners.delete(listener);
      removeEventListener('storage', listener);
    };
  }, choice);
}

/** Switches notifications on or off. The browser may ask the user first. */
export async function chooseNotifications(isOn: boolean): Promise<void> {
  if (isOn && (await Notification.requestPermission()) === 'granted') localStorage.setItem(storageKey, 'on');
  else localStorage.removeItem(storageKey);
  for (const listener of listeners) listener();
}

/** Notifies of each of one's own tasks that begins to wait, if that is switched on: once in all tabs of the browser. */
export function useNotifications(): void {
  const service = useService();
  const isOn = useNotificationChoice() === 'on';
  useEffect(() => {
    if (!isOn) return;
    const stop = new AbortController();
    // The tab that holds the lock notifies for all; when it is closed, the browser gives the lock to another one.
    void navigator.locks
      .request(`tasks-service.notifier${basePath}`, { signal: stop.signal }, () => notify(service, stop.signal))
      .catch(() => {}); // stopped while it waited for the lock
    return () => stop.abort();
  }, [service, isOn]);
}

/** Tells all tabs that the user looks at a task while it is shown: there is no notification for it then. */
export function useLookingAt(id: string | undefined, isVisible: boolean): void {
  useEffect(() => {
    if (id === undefined || !isVisible || navigator.locks === undefined) return;
    const stop = new AbortController();
    void navigator.locks
      .request(lookName(id), { mode: 'shared', signal: stop.signal }, () => aborted(stop.signal))
      .catch(() => {});
    return () => stop.abort();
  }, [id, isVisible]);
}

function choice(): NotificationChoice {
  if (!('Notification' in globalThis) || navigator.locks === undefined) return 'impossible';
  if (Notification.permission === 'denied') return 'refused';
  return Notification.permission === 'granted' && localStorage.getItem(storageKey) === 'on' ? 'on' : 'off';
}

/** Reads the waiting tasks again and again, and notifies of those that were not among them before. */
async function notify(service: Service, stop: AbortSignal): Promise<void> {
  let known: ReadonlySet<string> | undefined;
  /** Older questions than this were on no page so far, and are not new. */
  let floor = Number.NEGATIVE_INFINITY;
  let isReading = false;
  const read = async (): Promise<void> => {
    if (isReading) return;
    isReading = true;
    try {
      const tasks = await readWaiting(service, stop);
      for (const task of known === undefined ? [] : tasks) {
        if (known?.has(keyOf(task)) || milliseconds(task.waitingSince) < floor || (await isLookedAt(task.id))) continue;
        if (!stop.aborted) show(task);
      }
      known = new Set([...tasks.map(keyOf), ...(known ?? [])].slice(0, 20 * pageSize));
      if (tasks.length === pageSize) floor = Math.max(floor, milliseconds(tasks.at(-1)?.waitingSince));
    } catch {
      // The service cannot be reached just now: the next time will do.
    } finally {
      isReading = false;
    }
  };
  const pace = startPace(
    () => void read(),
    soonestMs,
    () => latestMs,
  );
  const ignore = onChanges(pace.ask);
  await read();
  await aborted(stop);
  pace.stop();
  ignore();
}

async function readWaiting({ client }: Service, signal: AbortSignal): Promise<readonly Task[]> {
  const request = { query: 'waiting:true', orderBy: 'current_state.timestamp desc', pageSize };
  return (await client.listTasks(request, { signal })).tasks;
}

function show(task: Task): void {
  const notification = new Notification(`${titleOf(task)} waits for input`, {
    body: (task.currentState?.message ?? '').slice(0, shownCharacters),
    tag: keyOf(task),
  });
  notification.addEventListener('click', () => {
    window.focus();
    goTo(taskPath(task.id));
    notification.close();
  });
}

/** A question of a task: the same task may ask again. */
function keyOf(task: Task): string {
  return `${task.id} ${milliseconds(task.waitingSince)}`;
}

async function isLookedAt(id: string): Promise<boolean> {
  const { held = [] } = await navigator.locks.query();
  return held.some(({ name }) => name === lookName(id));
}

function lookName(id: string): string {
  return `tasks-service.look${basePath}${id}`;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve());
  });
}
