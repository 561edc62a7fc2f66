/** The elements of a JSON array in a column; empty when it is NULL or not an array. mysql2 parses only columns of the type JSON. */
export function readJsonArray(json: unknown): unknown[] {
  const value: unknown = typeof json === 'string' ? JSON.parse(json) : json;
  return Array.isArray(value) ? value : [];
}

/** The strings of a JSON array in a column. */
export function readJsonStrings(json: unknown): string[] {
  return readJsonArray(json).filter((element) => typeof element === 'string');
}

/** The keys of a JSON object in a column that was read as text; empty when it is NULL, not an object, or cut. */
export function readJsonKeys(json: string | null): string[] {
  try {
    const value: unknown = JSON.parse(json ?? '');
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
  } catch {
    return [];
  }
}
