/** The address of a link that may be followed by a click: one of the web. Anything else, such as `javascript:`, stays text. */
export function webLink(text: string): string | undefined {
  const url = URL.parse(text);
  return url !== null && (url.protocol === 'https:' || url.protocol === 'http:') ? url.href : undefined;
}
