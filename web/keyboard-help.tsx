import { type JSX, useRef } from 'react';
import { type DialogHandle, KeyDialog } from './key-dialog.tsx';
import { useKeys } from './use-keys.ts';

/** A key, or several with the same meaning, and what it does. */
type KeyHelp = readonly [keys: readonly string[], meaning: string];

/** The keys of the list. */
export const listKeys: readonly KeyHelp[] = [
  [['j', 'k'], 'down, up'],
  [['g', 'G'], 'first, last'],
  [['Enter'], 'open'],
  [['/'], 'query'],
  [['w'], 'what waits, or all'],
  [['x', 'X'], 'select, select up to here'],
  [['y'], 'copy the link'],
];

/** The keys of the view of a task. */
export const taskKeys: readonly KeyHelp[] = [
  [['j', 'k'], 'next, previous task'],
  [['y'], 'copy the link'],
  [['Esc'], 'back to the list'],
];

/** The legend at the bottom of a view, with a dialog of all keys behind `?`. */
export function KeyboardHelp({ keys }: { readonly keys: readonly KeyHelp[] }): JSX.Element {
  const dialog = useRef<DialogHandle>(null);
  const show = (): void => dialog.current?.show();
  useKeys({ '?': show });
  return (
    <>
      <footer className="keys" aria-label="Keyboard">
        {keys.slice(0, 4).map((key) => (
          <span key={key[1]}>
            <KeyNames keys={key[0]} /> {key[1]}
          </span>
        ))}
        <button type="button" onClick={show}>
          <kbd>?</kbd> all keys
        </button>
      </footer>
      <KeyDialog ref={dialog} title="Keyboard">
        <KeyTable name="In the list" keys={listKeys} />
        <KeyTable name="In a task" keys={taskKeys} />
        <p className="muted">The page only reads: nothing here changes a task, also of several that are selected.</p>
      </KeyDialog>
    </>
  );
}

function KeyTable({ name, keys }: { readonly name: string; readonly keys: readonly KeyHelp[] }): JSX.Element {
  return (
    <section>
      <h3>{name}</h3>
      <dl>
        {keys.map(([names, meaning]) => (
          <div key={meaning}>
            <dt>
              <KeyNames keys={names} />
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function KeyNames({ keys }: { readonly keys: readonly string[] }): JSX.Element {
  return (
    <>
      {keys.map((key) => (
        <kbd key={key}>{key}</kbd>
      ))}
    </>
  );
}
