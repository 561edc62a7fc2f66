import { useLayoutEffect, useRef } from 'react';

/** What keys do, by their names, as `KeyboardEvent.key` has them. */
export type Keys = Readonly<Record<string, () => void>>;

/** Listens to keys anywhere on the page, but not while the user writes, or a dialog is open. */
export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  // Before the next key: the same one may mean something else then.
  useLayoutEffect(() => {
    latest.current = keys;
  });
  // Also the first key after a view is there: an effect would wait until it is painted.
  useLayoutEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isElsewhere(event.target)) return;
      const run = latest.current[event.key];
      if (run === undefined) return;
      event.preventDefault();
      run();
    };
    document.addEventListener('keydown', onKeyDown);
    return () => document.removeEventListener('keydown', onKeyDown);
  }, []);
}

function isElsewhere(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest('input:not([type="checkbox"]), textarea, select, dialog') !== null;
}
