/** Thrown when work did not end within its time limit. */
class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';
}

/**
 * Waits for work, but no longer than so many milliseconds. After that the work continues, and its failure is ignored.
 *
 * @returns what the work returns.
 * @throws {TimeLimitError} that names the limit; and what the work throws in time.
 */
export function withTimeLimit<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimeLimitError(`no answer within ${milliseconds} ms`)), milliseconds);
    void work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
