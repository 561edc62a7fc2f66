const listeners = new Set<() => void>();

/** Tells that tasks have changed, as far as the tab knows. */
export function tellChanges(): void {
  for (const listener of listeners) listener();
}

/** Calls a function when tasks change. @returns what ends that. */
export function onChanges(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
