import { type JSX, type KeyboardEvent, type Ref, useId, useImperativeHandle, useLayoutEffect, useRef, useState } from 'react';
import { listPath } from './address.ts';
import { CloseIcon, HelpIcon, SearchIcon } from './icons.tsx';
import type { DialogHandle } from './key-dialog.tsx';
import { goTo } from './navigation.tsx';
import { completeQuery, type Suggestion, takeSuggestion, writtenAt } from './query-completion.ts';
import { QueryHelp } from './query-help.tsx';
import type { QueryProblem } from './query-problems.ts';
import { repairTerm } from './query-repair.ts';
import { useService } from './service-context.ts';
import { useQueryValues } from './use-query-values.ts';

/** Methods of the box for keyboard shortcuts. */
export interface QueryBoxHandle {
  focus(): void;
}

/** The input of the query, with suggestions for the word at the caret, and with invalid terms underlined. */
export function QueryBox(props: {
  readonly query: string;
  readonly orderBy: string;
  readonly problems: readonly QueryProblem[];
  readonly ref: Ref<QueryBoxHandle>;
}): JSX.Element {
  const { query, orderBy, problems, ref } = props;
  const [text, setText] = useState(query);
  const [caret, setCaret] = useState<number>();
  const [chosen, setChosen] = useState(-1);
  const [scrolled, setScrolled] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const help = useRef<DialogHandle>(null);
  const wantedCaret = useRef<number>(undefined);
  const id = useId();
  // Before the next key, which would be lost or come in the wrong place.
  useLayoutEffect(() => setText(query), [query]);
  useLayoutEffect(() => {
    if (wantedCaret.current === undefined) return;
    input.current?.setSelectionRange(wantedCaret.current, wantedCaret.current);
    wantedCaret.current = undefined;
  }, [text]);
  useImperativeHandle(ref, () => ({
    focus: () => {
      input.current?.focus();
      input.current?.select();
    },
  }));

  const completion = useCompletion(text, caret);
  const suggestions = completion?.suggestions ?? [];
  const isOpen = suggestions.length > 0;
  const shownProblems = text === query ? problems : [];

  const apply = (next: string): void => {
    setCaret(undefined);
    goTo(listPath(next.trim(), orderBy));
  };
  const take = (suggestion: Suggestion): void => {
    if (completion === undefined) return;
    const taken = takeSuggestion(text, completion, suggestion);
    setText(taken.query);
    setChosen(-1);
    if (suggestion.isComplete) {
      apply(taken.query);
      return;
    }
    wantedCaret.current = taken.caret;
    setCaret(taken.caret);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const present = suggestions[chosen];
    switch (event.key) {
      case 'ArrowDown':
      case 'ArrowUp': {
        event.preventDefault();
        if (!isOpen) setCaret(input.current?.selectionStart ?? text.length);
        const step = event.key === 'ArrowDown' ? 1 : -1;
        // One position more than there are suggestions, for the text as it is.
        setChosen(((chosen + 1 + step + suggestions.length + 1) % (suggestions.length + 1)) - 1);
        return;
      }
      case 'Tab':
        if (present === undefined) return;
        event.preventDefault();
        take(present);
        return;
      case 'Enter':
        event.preventDefault();
        if (present === undefined) apply(text);
        else take(present);
        return;
      case 'Escape':
        event.stopPropagation();
        if (isOpen) {
          setCaret(undefined);
          setChosen(-1);
        } else {
          setText(query);
          input.current?.blur();
        }
        return;
      default:
    }
  };

  return (
    <div className="query-box">
      <div className={shownProblems.length > 0 ? 'query-field wrong' : 'query-field'}>
        <SearchIcon />
        <div className="query-text">
          <div className="query-marks" aria-hidden="true">
            <span style={{ marginLeft: -scrolled }}>{markPlaces(text, shownProblems)}</span>
          </div>
          <input
            ref={input}
            type="text"
            role="combobox"
            aria-label="Query"
            aria-expanded={isOpen}
            aria-controls={`${id}-suggestions`}
            aria-activedescendant={isOpen && chosen >= 0 ? `${id}-${chosen}` : undefined}
            aria-autocomplete="list"
            aria-invalid={shownProblems.length > 0}
            aria-describedby={shownProblems.length > 0 ? `${id}-problems` : undefined}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
            maxLength={4096}
            placeholder="Search names, or write status:running, template:…"
            value={text}
            onChange={(event) => {
              setText(event.target.value);
              setCaret(event.target.selectionStart ?? event.target.value.length);
              setChosen(-1);
            }}
            onClick={() => setCaret(input.current?.selectionStart ?? text.length)}
            onScroll={(event) => setScrolled(event.currentTarget.scrollLeft)}
            onBlur={() => {
              setCaret(undefined);
              setChosen(-1);
            }}
            onKeyDown={onKeyDown}
          />
        </div>
        {text === '' ? (
          <kbd title="Press / to come here">/</kbd>
        ) : (
          <button
            type="button"
            className="icon-button"
            title="Clear the query"
            aria-label="Clear the query"
            onClick={() => {
              setText('');
              apply('');
              input.current?.focus();
            }}
          >
            <CloseIcon />
          </button>
        )}
        <button
          type="button"
          className="icon-button"
          title="How to write a query"
          aria-label="How to write a query"
          onClick={() => help.current?.show()}
        >
          <HelpIcon />
        </button>
      </div>
      <QueryHelp ref={help} />
      <ul id={`${id}-suggestions`} role="listbox" aria-label="Suggestions" className="suggestions" hidden={!isOpen}>
        {suggestions.map((suggestion, index) => (
          <li
            key={suggestion.text}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            // Keeps the focus in the box until the click.
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => take(suggestion)}
          >
            <code>{suggestion.text}</code>
            <span>{suggestion.about}</span>
          </li>
        ))}
      </ul>
      {shownProblems.length > 0 && (
        <div id={`${id}-problems`} role="alert">
          <ul className="problems">
            {shownProblems.map(({ message, place }) => (
              <li key={`${place?.start ?? ''} ${message}`}>
                {place !== undefined && (
                  <button
                    type="button"
                    title="Select it in the query"
                    onClick={() => {
                      input.current?.focus();
                      input.current?.setSelectionRange(place.start, place.end);
                    }}
                  >
                    {text.slice(place.start, place.end)}
                  </button>
                )}
                <span>{message}</span>
                {place !== undefined && <Repair text={text} place={place} onRepair={apply} />}
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}

/** The completions at the caret, with the owners and templates that the service knows. */
function useCompletion(text: string, caret: number | undefined): ReturnType<typeof completeQuery> | undefined {
  const { seen } = useService();
  const { key, beginning = '' } = (caret === undefined ? undefined : writtenAt(text, caret)) ?? {};
  const listed = key === 'owner' || key === 'template' ? key : undefined;
  const values = useQueryValues(listed, beginning);
  if (caret === undefined) return undefined;
  const organization = seen.organizations().map((value) => ({ value }));
  return completeQuery(text, caret, { organization, ...(listed && { [listed]: values }) });
}

/** A button that puts what may be meant in the place of a wrong term. */
function Repair(props: {
  readonly text: string;
  readonly place: { readonly start: number; readonly end: number };
  onRepair(query: string): void;
}): JSX.Element | null {
  const { text, place, onRepair } = props;
  const meant = repairTerm(text.slice(place.start, place.end));
  if (meant === undefined) return null;
  const repaired = text.slice(0, place.start) + meant + text.slice(place.end);
  return (
    <span>
      Did you mean{' '}
      <button type="button" onClick={() => onRepair(repaired)}>
        {meant}
      </button>
      ?
    </span>
  );
}

/** A copy of the text behind the input, with invalid terms underlined. */
function markPlaces(text: string, problems: readonly QueryProblem[]): (string | JSX.Element)[] {
  const places = problems.flatMap(({ place }) => place ?? []).sort((one, other) => one.start - other.start);
  const parts: (string | JSX.Element)[] = [];
  let at = 0;
  for (const { start, end } of places) {
    if (start < at) continue;
    parts.push(text.slice(at, start), <mark key={start}>{text.slice(start, end)}</mark>);
    at = end;
  }
  return [...parts, text.slice(at)];
}
