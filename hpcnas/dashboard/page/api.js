// Asks the server. What has not changed since the last answer is not sent again (ETag), and the same object is given:
// a view may compare it with the one it has drawn. Says at the top of the page when the server is lost.

import { write } from "./elements.js";

const KEPT = 24; // answers
const FRESH = 400; // milliseconds for which two views that ask the same get one answer
const answers = new Map(); // address → {tag, value, at}, the latest asked for last
const asked = new Map(); // address → what is under way

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.name = "ServerError";
    this.status = status; // 0: no answer
  }
}

// The address of a request, relative to the page's: api/points?run=a&host=x&host=y.
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") query.append(name, one);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

// The JSON of a path such as "api/overview". Raises ServerError with the server's words, and an AbortError where
// `signal` says that nobody waits for it any more.
export async function json(path, parameters, { signal } = {}) {
  signal?.throwIfAborted();
  const where = address(path, parameters);
  let waiting = asked.get(where);
  if (!waiting) {
    waiting = ask(where).finally(() => asked.delete(where));
    asked.set(where, waiting);
  }
  try {
    const value = await unless(signal, waiting);
    told("");
    return value;
  } catch (error) {
    if (error instanceof ServerError) told(words(error));
    throw error;
  }
}

// What a promise gives, unless nobody waits for it any more: then an AbortError, at once.
function unless(signal, promise) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    signal.addEventListener("abort", leave);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}

async function ask(where) {
  const known = answers.get(where);
  if (known && performance.now() - known.at < FRESH) return known.value;
  let response;
  try {
    const headers = known?.tag ? { "If-None-Match": known.tag } : {};
    response = await fetch(where, { headers, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new ServerError("the server does not answer", 0);
  }
  if (response.status === 304 && known) return keep(where, known.tag, known.value);
  if (!response.ok) throw new ServerError(await reason(response), response.status);
  return keep(where, response.headers.get("ETag"), await response.json());
}

function keep(where, tag, value) {
  answers.delete(where);
  answers.set(where, { tag, value, at: performance.now() });
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  return value;
}

async function reason(response) {
  try {
    return (await response.json()).error ?? `status ${response.status}`;
  } catch {
    return `status ${response.status}`;
  }
}

function words(error) {
  if (error.status === 0) return "Lost the server. Trying again; what is shown may be old.";
  if (error.status === 401 || error.status === 403) {
    return "The server does not know this browser. Open the address with its token that hpcnas serve has printed.";
  }
  if (error.status === 503) return "The run cannot be read now. Trying again.";
  return ""; // of this request alone: the view shows it
}

function told(text) {
  const banner = document.getElementById("banner");
  write(banner, text);
  banner.hidden = text === "";
}
