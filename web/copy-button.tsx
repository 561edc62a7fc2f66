import { type JSX, useEffect, useState } from 'react';
import { copyText } from './copy-text.ts';
import { CheckIcon, CopyIcon } from './icons.tsx';

/** How long a button shows that it has copied, in milliseconds. */
const saidMs = 1500;

/** A button that copies a text. */
export function CopyButton({ text, what }: { readonly text: string; readonly what: string }): JSX.Element {
  const [result, setResult] = useState<'copied' | 'failed'>();
  useEffect(() => {
    if (result === undefined) return;
    const timer = setTimeout(() => setResult(undefined), saidMs);
    return () => clearTimeout(timer);
  }, [result]);
  const copy = (): void => {
    copyText(text).then(
      () => setResult('copied'),
      () => setResult('failed'),
    );
  };
  return (
    <button type="button" className="icon-button copy" title={`Copy ${what}`} aria-label={`Copy ${what}`} onClick={copy}>
      {result === 'copied' ? <CheckIcon /> : <CopyIcon />}
      <span role="status" className={result === undefined ? 'unseen' : 'said'}>
        {result === 'copied' ? 'Copied' : result === 'failed' ? 'Not allowed' : ''}
      </span>
    </button>
  );
}
