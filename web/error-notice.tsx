import { Code } from '@connectrpc/connect';
import type { JSX } from 'react';
import { isCode, isPassing } from './service.ts';

/** An error and what the user can do about it, with a button to retry. */
export function ErrorNotice({ error, onRetry }: { readonly error: Error; readonly onRetry: () => void }): JSX.Element {
  const [title, advice] = explain(error);
  return (
    <div className="notice" role="alert">
      <h2>{title}</h2>
      <p>{advice}</p>
      <button type="button" className="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

function explain(error: Error): readonly [title: string, advice: string] {
  if (isCode(error, Code.ResourceExhausted)) {
    return [
      'That would read too much',
      'Narrow the query: name an owner or a status, or leave out words that are looked for in prompts.',
    ];
  }
  if (isCode(error, Code.DeadlineExceeded))
    return ['The answer took too long', 'The service may be busy. Try again, or narrow the query.'];
  if (isPassing(error)) {
    return ['The service cannot be reached', 'It may be starting again, or the network is down. The page goes on trying.'];
  }
  return ['Something went wrong in the service', `Tell its operators: ${error.message}`];
}
