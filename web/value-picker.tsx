import { type JSX, type KeyboardEvent, useId, useRef, useState } from 'react';
import { type ListedKey, useQueryValues } from './use-query-values.ts';

/** Most values that are shown at once; to find others, one writes. */
const maxShown = 12;

/** A box to choose an owner or a template from all that the user may see. */
export function ValuePicker(props: {
  readonly of: ListedKey;
  readonly label: string;
  /** What it says while nothing is chosen, and the choice that takes a value away. */
  readonly none: string;
  readonly value: string | undefined;
  onChoose(value: string | undefined): void;
}): JSX.Element {
  const { of: key, label, none, value, onChoose } = props;
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  /** What is being written; undefined while the list is closed. */
  const [text, setText] = useState<string>();
  const [wanted, setChosen] = useState(0);
  const isOpen = text !== undefined;
  const values = useQueryValues(isOpen ? key : undefined, text ?? '').slice(0, maxShown);
  const options = [...(text === '' && value !== undefined ? [{ value: undefined, about: none }] : []), ...values];

  // There may be fewer of them than a moment ago.
  const chosen = Math.min(wanted, options.length - 1);

  const close = (): void => {
    setText(undefined);
    setChosen(0);
  };
  const choose = (option: (typeof options)[number] | undefined): void => {
    if (option === undefined) return;
    close();
    input.current?.blur();
    onChoose(option.value);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    switch (event.key) {
      case 'ArrowDown':
      case 'ArrowUp':
        event.preventDefault();
        if (isOpen) setChosen((chosen + (event.key === 'ArrowDown' ? 1 : -1) + options.length) % Math.max(1, options.length));
        else setText('');
        return;
      case 'Enter':
        event.preventDefault();
        choose(options[chosen]);
        return;
      case 'Escape':
        event.stopPropagation();
        close();
        input.current?.blur();
        return;
      default:
    }
  };

  return (
    <span className={value === undefined ? 'picker' : 'picker chosen'}>
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={isOpen}
        aria-controls={`${id}-values`}
        aria-activedescendant={isOpen && options.length > 0 ? `${id}-${chosen}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        maxLength={191}
        placeholder={isOpen ? (value ?? 'Choose…') : none}
        value={text ?? value ?? ''}
        onFocus={() => setText('')}
        onBlur={close}
        onChange={(event) => {
          setText(event.target.value);
          setChosen(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul id={`${id}-values`} role="listbox" aria-label={`${label}, to choose from`} className="suggestions" hidden={!isOpen}>
        {options.map((option, index) => (
          <li
            key={option.value ?? ''}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            // Keeps the focus in the box until the click.
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => choose(option)}
          >
            <bdi>{option.value ?? option.about}</bdi>
            <span>{option.value !== undefined && option.about}</span>
          </li>
        ))}
        {options.length === 0 && (
          <li role="option" aria-disabled="true" aria-selected={false}>
            Nothing of that name
          </li>
        )}
      </ul>
    </span>
  );
}

/** A box to choose one of a few words of a key. */
export function WordPicker(props: {
  readonly label: string;
  readonly none: string;
  readonly words: readonly string[];
  readonly value: string | undefined;
  onChoose(value: string | undefined): void;
}): JSX.Element {
  const { label, none, words, value, onChoose } = props;
  const isKnown = value !== undefined && words.includes(value);
  return (
    <span className={isKnown ? 'picker chosen' : 'picker'}>
      <select
        aria-label={label}
        value={isKnown ? value : ''}
        onChange={(event) => onChoose(event.target.value === '' ? undefined : event.target.value)}
      >
        <option value="">{none}</option>
        {words.map((word) => (
          <option key={word} value={word}>
            {word[0]?.toUpperCase()}
            {word.slice(1)}
          </option>
        ))}
      </select>
    </span>
  );
}
