/** The elements of a JSON array in a column; none when it is NULL or no array. mysql2 parses only columns of the type JSON. */
export function readJsonArray(json: unknown): unknown[] {
  const value: unknown = typeof json === 'string' ? JSON.parse(json) : json;
  return Array.isArray(value) ? value : [];
}

/** The strings of a JSON array in a column. */
export function readJsonStrings(json: unknown): string[] {
  return readJsonArray(json).filter((element) => typeof element === 'string');
}
