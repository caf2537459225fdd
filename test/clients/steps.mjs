// How a program in this folder speaks with its test: each step is a line of JSON on standard output, and what the test
// has to say is a line on standard input.

import { createInterface } from 'node:readline';

export const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export function tell(step, facts = {}) {
  process.stdout.write(JSON.stringify({ step, ...facts }) + '\n');
}

// visit sends the person to url, and returns the URL that their browser came back with.
export async function visit(url) {
  tell('authorize', { url: String(url) });
  const { value } = await answers.next();
  return new URL(value);
}

// refused returns what describe says of the error that attempt ends with, and throws if it succeeds.
export async function refused(attempt, describe) {
  let result;
  try {
    result = await attempt();
  } catch (error) {
    return describe(error);
  }
  throw new Error(`it was not refused: ${JSON.stringify(result)}`);
}
