// How a program in this folder communicates with its test: it prints each step as a line of JSON, and reads a line for
// each reply of the test.

import { createInterface } from 'node:readline';

export const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export function tell(step, facts = {}) {
  process.stdout.write(JSON.stringify({ step, ...facts }) + '\n');
}

// visit sends the person to url, and returns the URL to which their browser was redirected.
export async function visit(url) {
  tell('authorize', { url: String(url) });
  const { value } = await answers.next();
  return new URL(value);
}

// refused returns describe(error) for the error of attempt, and throws if attempt succeeds.
export async function refused(attempt, describe) {
  let result;
  try {
    result = await attempt();
  } catch (error) {
    return describe(error);
  }
  throw new Error(`it was not refused: ${JSON.stringify(result)}`);
}
