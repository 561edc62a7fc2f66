import { type JSX, type ReactNode, type Ref, useEffect, useId, useImperativeHandle, useRef } from 'react';

/** Shows a dialog. */
export interface DialogHandle {
  show(): void;
}

/** A dialog that explains something, with a heading and a button that closes it. */
export function KeyDialog(props: {
  readonly ref: Ref<DialogHandle>;
  readonly title: string;
  readonly className?: string;
  readonly children: ReactNode;
}): JSX.Element {
  const { ref, title, className = '', children } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const id = useId();
  useImperativeHandle(ref, () => ({
    show: () => {
      dialog.current?.showModal();
      // Else the button at the end has the focus, and the beginning of a long text is out of sight.
      heading.current?.focus();
    },
  }));
  // What is open when the view goes would stay open in the next one.
  useEffect(() => () => dialog.current?.close(), []);
  return (
    <dialog ref={dialog} className={`card key-dialog ${className}`} aria-labelledby={id}>
      <h2 ref={heading} id={id} tabIndex={-1}>
        {title}
      </h2>
      {children}
      <form method="dialog">
        <button type="submit" className="button">
          Close
        </button>
      </form>
    </dialog>
  );
}
