import type { JSX, Ref } from 'react';
import { type DialogHandle, KeyDialog } from './key-dialog.tsx';
import { keyHelp } from './query-completion.ts';

const rules: readonly string[] = [
  'Terms stand with spaces between them, and all of them must hold: status:running template:docker.',
  'A term is key:value. Words without a key are looked for in the name; owner/name is the task of an owner.',
  'A value with a space or a colon needs quotation marks: prompt:"race condition". There is no escape character.',
  'Small and capital letters are the same, in keys and in values.',
  'A key stands once, but for id, has-agent and param: these may be repeated, and take lists with commas.',
  'Without owner, the tasks are your own; with id, organization or shared_with_… they are everyone’s.',
  'state:failure is the same as state:failed. dormant:false and has-ai-task ask for nothing.',
  'A day means its beginning in UTC; a time is like 2026-11-23T10:00:00Z.',
  'A query has at most 4 KiB, 64 terms, and 200 values in a list.',
];

/** The whole language of queries, in a dialog. It is part of the page, so that it is there without a network. */
export function QueryHelp({ ref }: { readonly ref: Ref<DialogHandle> }): JSX.Element {
  return (
    <KeyDialog ref={ref} className="query-help" title="How to write a query">
      <ul className="rules">
        {rules.map((rule) => (
          <li key={rule}>{rule}</li>
        ))}
      </ul>
      <table>
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">Which tasks</th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(keyHelp).map(([key, { about, values, example }]) => (
            <tr key={key}>
              <th scope="row">
                <code>{key}</code>
              </th>
              <td>
                {about}
                {values !== undefined && <small>{values.join(', ')}</small>}
                {example !== undefined && <small>{`${key}:${example}`}</small>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </KeyDialog>
  );
}
