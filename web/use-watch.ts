import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { WatchTasksResponse } from '../src/gen/tasks/v1/tasks_pb.ts';
import { tellChanges } from './changes.ts';
import type { LiveEvent } from './live-list.ts';
import { isWatchable } from './query-text.ts';
import { useService } from './service-context.ts';
import { runSharedStream } from './shared-stream.ts';
import type { LiveState } from './task-stream.ts';

/** Callbacks of a component that watches. */
interface WatchHandlers {
  onEvents(events: readonly LiveEvent[]): void;
  /** Changes may have been missed: load again. */
  onGap(): void;
  /** Loads what is watched, and gives its resume token. Called when nothing is known yet; without it, `onGap` tells to load. */
  begin?(): Promise<string>;
}

/**
 * For how long events are collected, in milliseconds, so that a burst costs one rendering; and how far renderings are apart while
 * events never pause: of a list of thousands each can cost a frame.
 */
const batchMs = 50;
const apartMs = 500;

const connecting: LiveState = { status: 'connecting' };

/** Most resume tokens that are kept of stopped watches. */
const maxRemembered = 20;

/** The resume tokens of watches that stopped and may resume: of a hidden tab, or of a list behind a task's view. */
const resumeTokens = new Map<string, string>();

/**
 * Watches a query while the tab is visible.
 *
 * @param query undefined to watch nothing.
 */
export function useWatch(query: string | undefined, handlers: WatchHandlers): LiveState {
  const { token, client } = useService();
  const isVisible = useVisible();
  const [known, setKnown] = useState<{ readonly query: string; readonly live: LiveState }>();
  const latest = useRef(handlers);
  useEffect(() => {
    latest.current = handlers;
  });

  useEffect(() => {
    if (query === undefined || !isVisible) return;
    const setLive = (live: LiveState): void => setKnown({ query, live });
    if (!isWatchable(query)) {
      setLive({ status: 'polling' });
      return;
    }
    const key = `${token}\n${query}`;
    const stop = new AbortController();
    let batch: LiveEvent[] = [];
    let timer: number | undefined;
    let handedOverAt = Number.NEGATIVE_INFINITY;
    const handOver = (): void => {
      clearTimeout(timer);
      timer = undefined;
      handedOverAt = performance.now();
      const events = batch;
      batch = [];
      if (events.length === 0) return;
      latest.current.onEvents(events);
      tellChanges();
    };
    const listener = {
      onMessage(message: WatchTasksResponse) {
        remember(key, message.resumeToken);
        const event = toEvent(message);
        if (event === undefined) return;
        batch.push(event);
        timer ??= window.setTimeout(handOver, Math.max(batchMs, handedOverAt + apartMs - performance.now()));
      },
      onStatus: (status: LiveState['status'], away?: Omit<LiveState, 'status'>) => {
        if (!stop.signal.aborted) setLive({ ...away, status });
      },
      onGap: () => latest.current.onGap(),
    };
    const begin = async (): Promise<string> => (await latest.current.begin?.()) ?? '';
    void runSharedStream(client.watchTasks, { token, query }, resumeTokens.get(key) ?? '', begin, listener, stop.signal);
    return () => {
      stop.abort();
      handOver();
    };
  }, [query, isVisible, token, client]);

  // What is known of another query says nothing of this one.
  return known !== undefined && known.query === query ? known.live : connecting;
}

/** Whether the tab is visible; the component renders again when that changes. */
export function useVisible(): boolean {
  return useSyncExternalStore(onVisibility, () => document.visibilityState === 'visible');
}

function toEvent({ event }: WatchTasksResponse): LiveEvent | undefined {
  switch (event.case) {
    case 'upserted':
      return { upserted: event.value };
    case 'removed':
      return { removed: event.value.id };
    default:
      return undefined;
  }
}

function remember(key: string, resumeToken: string): void {
  if (resumeToken === '') return;
  resumeTokens.delete(key);
  resumeTokens.set(key, resumeToken);
  const [oldest] = resumeTokens.keys();
  if (resumeTokens.size > maxRemembered && oldest !== undefined) resumeTokens.delete(oldest);
}

function onVisibility(listener: () => void): () => void {
  document.addEventListener('visibilitychange', listener);
  return () => document.removeEventListener('visibilitychange', listener);
}
