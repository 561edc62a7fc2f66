import type { JSX } from 'react';
import { Link } from './navigation.tsx';

/** The view of an address that the page does not have. */
export function NotFound(): JSX.Element {
  return (
    <main className="notice">
      <h1>There is nothing here</h1>
      <p>The address may be misspelled.</p>
      <Link className="button" href="/">
        To the tasks
      </Link>
    </main>
  );
}
